"""What an application does with fhirpy: ADDRESS TOKEN. Fails by an exception."""

import sys

from fhirpy import SyncFHIRClient

client = SyncFHIRClient(
    sys.argv[1],
    authorization=f"Bearer {sys.argv[2]}",
    # It counts by a parameter of its own besides FHIR's `_count=0`.
    extra_headers={"Prefer": "handling=lenient"},
)

patient = client.resource("Patient", name=[{"family": "Fhirpy", "given": ["Ada"]}], birthDate="1950-04-01")
patient.save()
assert patient.id, patient

bundle = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": f"urn:uuid:00000000-0000-4000-8000-00000000000{number}",
            "request": {"method": "POST", "url": "Observation"},
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": f"1-{number}"}]},
                "subject": {"reference": f"Patient/{patient.id}"},
            },
        }
        for number in range(5)
    ],
}
answer = client.execute("", method="post", data=bundle)
assert [entry["response"]["status"][:3] for entry in answer["entry"]] == ["201"] * 5, answer

observations = client.resources("Observation").search(patient=patient.id)
assert observations.count() == 5
assert len(observations.limit(2).fetch()) == 2
# Page after page.
everything = observations.limit(2).fetch_all()
assert len({observation.id for observation in everything}) == 5, everything

found = client.resources("Patient").search(family="fhirpy", birthdate="1950-04").first()
assert found.id == patient.id
found["active"] = True
found.save()
assert client.reference("Patient", patient.id).to_resource()["active"] is True
assert found["meta"]["versionId"] == "2"

everything[0].delete()
assert observations.count() == 4
print("fine")
