"""Opens what was handed over: `pyrage` (age) and `pypdf`, which nobody here wrote.

files.py new              prints a secret key and its recipient
files.py open FOLDER KEY  prints {"files": {name: …}, "failed": [names]} of the folder's `.age` files
"""
import csv, hashlib, io, json, pathlib, sys
import pyrage
from pypdf import PdfReader

if sys.argv[1] == "new":
    identity = pyrage.x25519.Identity.generate()
    print(json.dumps({"secret": str(identity), "recipient": str(identity.to_public())}))
    sys.exit()
identity = pyrage.x25519.Identity.from_str(sys.argv[3])
files, failed = {}, []
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    if not path.name.endswith(".age"):
        failed.append(path.name)
        continue
    plain = pyrage.decrypt(path.read_bytes(), [identity])
    name = path.name[: -len(".age")]
    if name.endswith(".csv"):
        files[name] = {"rows": list(csv.DictReader(io.StringIO(plain.decode("utf-8"), newline="")))}
    else:
        pages = PdfReader(io.BytesIO(plain)).pages
        files[name] = {"pages": len(pages), "text": "\n".join(page.extract_text() for page in pages),
                       "sha256": hashlib.sha256(plain).hexdigest()}
print(json.dumps({"files": files, "failed": failed}))
