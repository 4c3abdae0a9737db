"""Receipts, and what a power cut leaves of them: see `teleop_testing.machine.power`."""

from datetime import UTC, datetime

from teleop_schema.files import Receipt
from teleop_sync_agent.keeping.receipts import LocalReceipt, Receipts
from teleop_testing.machine.power import watched_disk


def test_receipt_is_there_after_a_power_cut(tmp_path):
    """One that was written is there, with the folders above it, and so is one that takes its place."""
    root = tmp_path / "outputs"
    root.mkdir()
    with watched_disk(root) as disk:
        receipts = Receipts(root)
        receipts.hold()
        for round_, size_bytes in enumerate((1, 2)):
            receipts.write(receipt("dataset/data/file-000.parquet", size_bytes))
            for world, left in disk.cut(tmp_path / f"cut-{round_}"):
                found = Receipts(left).read("dataset/data/file-000.parquet")
                assert found is not None, world
                assert found.size_bytes == size_bytes, world
        receipts.release()


def receipt(path: str, size_bytes: int) -> LocalReceipt:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    stored = Receipt(
        kind="dataset", robot_id="robot_A", path=path, size_bytes=size_bytes, sha256="0" * 64, stored_at=at
    )
    return LocalReceipt(
        path=path, size_bytes=size_bytes, sha256="0" * 64, mtime_ns=0, uploaded_at=at.isoformat(),
        server="http://localhost", receipt=stored,
    )  # fmt: skip
