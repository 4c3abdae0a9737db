"""A recorded session as a pandas.DataFrame, and whether all of it is there.

python examples/read_session.py http://localhost:8000 1
"""

import json
import sys
import urllib.request

import pandas as pd

PARQUET = "application/vnd.apache.parquet"


def main(backend_url: str, session_id: str) -> None:
    session = f"{backend_url}/sessions/{session_id}"
    with urllib.request.urlopen(f"{session}/ledger") as answer:
        ledger = json.load(answer)
    print(f"{ledger['committed']} of {ledger['logged']} frames, {ledger['measured_hz']:.1f} Hz")
    for gap in ledger["gaps"]:
        print("missing:", gap)

    # `Accept` chooses the format; `?from=0&to=600` would be the first ten seconds at 60 Hz.
    frames = pd.read_parquet(f"{session}/frames", storage_options={"Accept": PARQUET})
    frames = frames.set_index("timestamp")
    joints = [name for name in frames if name.startswith("observation.")]
    print(frames[joints].describe().loc[["min", "mean", "max"]].round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
