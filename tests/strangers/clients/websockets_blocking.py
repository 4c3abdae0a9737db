"""The blocking client of `websockets`, which reads in a thread until 16 messages wait to be taken."""

from pacing import ADDRESS, paced
from websockets.sync.client import connect

with connect(ADDRESS) as line:
    for text in paced():
        line.send(text)
