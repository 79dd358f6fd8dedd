"""Pictures and other attachments are counted however a client writes its JSON, and words about them are not."""

import json

import pytest

pytest.importorskip("msgspec")

from vram.gateway.ask import read_chat

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
SOUND = {"type": "input_audio", "input_audio": {"data": "B" * 5000, "format": "wav"}}
FILE = {"type": "file", "file": {"file_data": "C" * 5000}}
FILM = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}
TEXT = {"type": "text", "text": 'an image, "type": "image_url", \\"type\\": \\"file\\"'}


@pytest.mark.parametrize(
    ("content", "pictures"),
    [
        ("an image of audio in a video file", 0),
        ('{"type": "image_url"}', 0),
        ([TEXT], 0),
        ([TEXT, PICTURE], 1),
        ([PICTURE, TEXT, SOUND, FILE, FILM, PICTURE], 5),
        ([{"image_url": PICTURE["image_url"], "type": "image_url"}], 1),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "the type of file"}], 0),
    ],
)
@pytest.mark.parametrize("form", [{}, {"separators": (",", ":")}, {"indent": 3}, {"separators": (" , ", " : ")}])
def test_attachments_are_counted_and_their_data_is_no_text(content, pictures, form):
    """As `json` writes them, tight, spread or indented: the number is that of the list, and their bytes are no prompt."""
    ask = read_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}, **form).encode())
    assert ask.pictures == pictures
    # What is left is at most the text itself and its frame.
    assert ask.prompt_bytes < 1500
