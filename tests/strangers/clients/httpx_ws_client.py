"""`httpx-ws`, which stands on wsproto and reads in a thread."""

import httpx_ws
from pacing import ADDRESS, paced

with httpx_ws.connect_ws(ADDRESS) as line:
    for text in paced():
        line.send_text(text)
