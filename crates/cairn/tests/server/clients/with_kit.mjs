// What an application does with fhir-kit-client: MODULE ADDRESS TOKEN. Fails by an exception.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const [module, baseUrl, token] = process.argv.slice(2);
const loaded = await import(pathToFileURL(module).href);
const Client = loaded.default?.default ?? loaded.default ?? loaded.Client;
const client = new Client({ baseUrl, bearerToken: token });

const statement = await client.capabilityStatement();
assert.equal(statement.fhirVersion, '4.0.1');

const made = await client.create({
  resourceType: 'Patient',
  body: { resourceType: 'Patient', name: [{ family: 'Kit' }] },
});
const observation = (number) => ({
  request: { method: 'POST', url: 'Observation' },
  resource: {
    resourceType: 'Observation',
    status: 'final',
    code: { text: String(number) },
    subject: { reference: `Patient/${made.id}` },
  },
});
for (const kind of ['transaction', 'batch']) {
  const answer = await client[kind]({
    body: { resourceType: 'Bundle', type: kind, entry: [1, 2, 3].map(observation) },
  });
  assert.deepEqual(answer.entry.map((entry) => entry.response.status.slice(0, 3)), ['201', '201', '201']);
}

const seen = new Set();
let page = await client.search({
  resourceType: 'Observation',
  searchParams: { patient: made.id, _count: 4 },
});
while (page) {
  for (const entry of page.entry ?? []) seen.add(entry.resource.id);
  page = page.link.some((link) => link.relation === 'next')
    ? await client.nextPage({ bundle: page })
    : undefined;
}
assert.equal(seen.size, 6);

const updated = await client.update({
  resourceType: 'Patient',
  id: made.id,
  body: { ...made, active: true },
});
assert.equal(updated.meta.versionId, '2');
const patched = await client.patch({
  resourceType: 'Patient',
  id: made.id,
  jsonPatch: [{ op: 'replace', path: '/active', value: false }],
});
assert.deepEqual([patched.active, patched.meta.versionId], [false, '3']);
const history = await client.history({ resourceType: 'Patient', id: made.id });
assert.equal(history.total, 3);
const old = await client.vread({ resourceType: 'Patient', id: made.id, version: '1' });
assert.equal(old.active, undefined);
const everything = await client.operation({
  name: 'everything',
  resourceType: 'Patient',
  id: made.id,
});
assert.equal(everything.total, 7);
await client.delete({ resourceType: 'Observation', id: [...seen][0] });
await assert.rejects(client.read({ resourceType: 'Observation', id: [...seen][0] }));
console.log('fine');
