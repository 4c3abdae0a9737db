"""A user's program in Python, with a client that is generated from the description."""

import json
import sys
from io import BytesIO
from pathlib import Path

from backend_client import Client
from backend_client.api.exports import create_export, follow_export, get_archive
from backend_client.api.sessions import get_ledger, get_session, list_sessions
from backend_client.api.upload import upload_dataset_file
from backend_client.models import DatasetForm, ExportRequest, Problem
from backend_client.types import File

address, path = sys.argv[1:]
with Client(base_url=address, raise_on_unexpected_status=True) as client:
    page = list_sessions.sync(client=client, robot_id="robot_A", limit=10)
    session = page.sessions[0]
    ledger = get_ledger.sync(session.id, client=client)

    file = File(payload=BytesIO(Path(path).read_bytes()), file_name="info.json")
    form = DatasetForm(robot_id="robot_A", dataset="me/ds", path="meta/info.json", file=file)
    receipt = upload_dataset_file.sync(client=client, body=form)

    made = create_export.sync(client=client, body=ExportRequest(repo_id="me/made", session_ids=[session.id]))
    events = follow_export.sync_detailed(made.id, client=client).content.decode()
    states = [
        json.loads(line.removeprefix("data: "))["status"]
        for line in events.splitlines()
        if line.startswith("data: ")
    ]
    archive = get_archive.sync(made.id, client=client).payload.read()
    missing = get_session.sync(999, client=client)
    assert isinstance(missing, Problem)

print(
    json.dumps(
        {
            "committed": ledger.committed,
            "stored": receipt.path,
            "states": states,
            "archive": len(archive),
            "code": missing.code,
        }
    )
)
