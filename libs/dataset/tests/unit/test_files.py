"""How a dataset's files are written, beside LeRobot's own way."""

from lerobot.utils.io_utils import write_json
from teleop_dataset.v3.files import write_document


def test_a_document_has_lerobots_bytes(tmp_path):
    """An info.json that a repair need not change is the same file, and tools see one form."""
    document = {"fps": 30, "task": "잡다 é", "ratio": 0.1, "names": ["a", None], "nothing": {}}
    write_json(document, tmp_path / "lerobots.json")
    write_document(tmp_path, "meta/ours.json", document)
    assert (tmp_path / "meta/ours.json").read_bytes() == (tmp_path / "lerobots.json").read_bytes()
