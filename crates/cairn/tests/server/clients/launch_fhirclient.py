"""SMART App Launch with SMART's own client for Python. BASE CLIENT_ID REDIRECT_URI; prints where to send the
person, reads where they came back to, and goes on. Fails by an exception."""

import sys

from fhirclient import client
from fhirclient.models.encounter import Encounter
from fhirclient.models.patient import Patient

base, client_id, redirect_uri = sys.argv[1:]
smart = client.FHIRClient(
    settings={
        "app_id": client_id,
        "api_base": base,
        "redirect_uri": redirect_uri,
        "scope": "openid fhirUser launch/patient launch/encounter offline_access patient/Patient.rs patient/Encounter.r",
    }
)
assert smart.prepare() is False
print(smart.authorize_url, flush=True)
smart.handle_callback(sys.stdin.readline().strip())
# It reads no identity token by itself; what it keeps of the answer is what the server told.
assert smart.ready and smart.patient_id == "ann", smart.patient_id
assert smart.patient.birthDate.isostring == "1950-02-03"
assert Patient.read("ann", smart.server).id == "ann"
assert smart.launch_context["encounter"] == "new", smart.launch_context
assert Encounter.read("new", smart.server).subject.reference == "Patient/ann"
assert smart.reauthorize() is not None
assert smart.launch_context["encounter"] == "new", smart.launch_context
assert Patient.read("ann", smart.server).id == "ann"
print("fine")
