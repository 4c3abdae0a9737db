"""SHA-256 of each intact object in the archive of a store on stdin; names of damaged ones on stderr."""

import hashlib
import sys
import tarfile

BLOCK_BYTES = 1024 * 1024

digests: dict[str, str] = {}
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    for member in archive:
        if member.isreg():
            digest = hashlib.sha256()
            content = archive.extractfile(member)
            while content is not None and (block := content.read(BLOCK_BYTES)):
                digest.update(block)
            digests[member.name] = digest.hexdigest()
        elif member.islnk():
            digests[member.name] = digests[member.linkname]
        else:
            continue
        if "/.objects/" in member.name:
            intact = member.name.endswith(digests[member.name])
            print(member.name.rsplit("/", 1)[1], file=sys.stdout if intact else sys.stderr)
