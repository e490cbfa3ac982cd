"""What an application does with fhirclient (SMART): ADDRESS TOKEN. Fails by an exception."""

import sys

from fhirclient import client
from fhirclient.models import bundle, fhirdate, humanname, observation, patient
from fhirclient.models.codeableconcept import CodeableConcept
from fhirclient.models.fhirreference import FHIRReference

smart = client.FHIRClient(settings={"app_id": "test", "api_base": sys.argv[1]})
smart.server.session.headers["Authorization"] = f"Bearer {sys.argv[2]}"
# Reads the CapabilityStatement, which tells it of the token endpoint; it has a token already.
smart.prepare()
smart.server.auth.access_token = sys.argv[2]
assert smart.ready, smart

ada = patient.Patient()
name = humanname.HumanName()
name.family, name.given = "Smart", ["Ada"]
ada.name = [name]
ada.birthDate = fhirdate.FHIRDate("1950-04-01")
made = ada.create(smart.server)
ada = patient.Patient.read(made["id"], smart.server)
assert ada.name[0].family == "Smart"

for number in range(5):
    seen = observation.Observation()
    seen.status = "final"
    seen.code = CodeableConcept({"text": str(number)})
    seen.subject = FHIRReference({"reference": f"Patient/{ada.id}"})
    assert seen.create(smart.server)["id"]

search = observation.Observation.where(struct={"subject": f"Patient/{ada.id}", "_count": "2"})
first = search.perform(smart.server)
assert isinstance(first, bundle.Bundle) and len(first.entry) == 2
found = list(search.perform_resources_iter(smart.server))
assert len({one.id for one in found}) == 5, found

ada.active = True
assert ada.update(smart.server)["meta"]["versionId"] == "2"
assert found[0].delete(smart.server) is None
left = observation.Observation.where(struct={"subject": f"Patient/{ada.id}"})
assert len(left.perform_resources(smart.server)) == 4
print("fine")
