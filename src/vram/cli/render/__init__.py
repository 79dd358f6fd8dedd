"""Pictures, tables and reports for people: terminal, SVG and HTML as strings. Nothing here plans or measures."""
