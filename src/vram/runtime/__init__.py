"""The life of engines on one machine: started as planned, watched, proved, kept alive, ended without a trace."""
