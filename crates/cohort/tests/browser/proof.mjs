// Checks a downloaded proof without any of our own code: RFC 6962 hashes and a C2SP signed note, as
// the page itself tells its readers to.
import { createHash, createPublicKey, verify } from "node:crypto";

const sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const bytes = (base64) => Buffer.from(base64, "base64");

/** The root that leaf and path lead to (RFC 9162, section 2.1.3.2). */
function rootOf(leafHash, index, size, path) {
  let [node, last, hash] = [BigInt(index), BigInt(size) - 1n, leafHash];
  for (const step of path) {
    if (last === 0n) throw new Error("the path is too long");
    if (node % 2n === 1n || node === last) {
      hash = sha256(Buffer.of(1), step, hash);
      while (node % 2n === 0n && node !== 0n) { node >>= 1n; last >>= 1n; }
    } else {
      hash = sha256(Buffer.of(1), hash, step);
    }
    node >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n) throw new Error("the path is too short");
  return hash;
}

/** The record's own text, with the entities that are shown in their places. */
function textOf(parts) {
  const event = JSON.parse(parts[0].text);
  const entities = parts.slice(1).map((part) => (part.text === undefined ? null : JSON.parse(part.text)));
  if ((event.entity ?? []).length !== entities.length) throw new Error("the record has another number of entities");
  if (entities.length > 0) event.entity = entities;
  return event;
}

/** Throws, with the reason, unless the proof holds; gives the event that it proves. */
export function checkProof({ parts, proof }) {
  const hashes = parts.map((part) => (part.hash === undefined ? sha256(bytes(part.salt), part.text) : bytes(part.hash)));
  const record = bytes(proof.leaf_record);
  if (!sha256(...hashes).equals(record.subarray(-32))) throw new Error("the leaf does not commit to this text");
  const leafHash = sha256(Buffer.of(0), bytes(proof.leaf_record));
  if (!leafHash.equals(bytes(proof.leaf_hash))) throw new Error("the leaf's hash is not that of its record");
  const root = rootOf(leafHash, proof.leaf_index, proof.tree_size, proof.path.map(bytes));
  if (!root.equals(bytes(proof.root_hash))) throw new Error("the path does not lead to the tree's hash");

  const end = proof.checkpoint.indexOf("\n\n");
  if (end < 0) throw new Error("the checkpoint is no signed note");
  const text = proof.checkpoint.slice(0, end + 1);
  const [origin, , heads, ...extension] = text.split("\n").slice(0, -1);
  const shard = proof.shard.toString(16).padStart(2, "0");
  if (!extension.includes(`${shard} ${proof.tree_size} ${proof.root_hash}`)) throw new Error("the tree's hash does not stand in the checkpoint");
  if (!sha256(extension.map((line) => `${line}\n`).join("")).equals(bytes(heads))) throw new Error("the checkpoint's own hash is wrong");

  const [name, id, key] = /^(.+)\+([0-9a-f]{8})\+(.+)$/.exec(proof.verifier_key).slice(1);
  const keyBytes = bytes(key);
  if (name !== origin || keyBytes[0] !== 1) throw new Error("the verifier key is another's");
  if (sha256(name, "\n", keyBytes).subarray(0, 4).toString("hex") !== id) throw new Error("the verifier key's id is wrong");
  const line = proof.checkpoint.slice(end + 2).split("\n").find((candidate) => candidate.startsWith(`— ${name} `));
  if (!line) throw new Error("the checkpoint is not signed with the verifier key");
  const signature = bytes(line.slice(`— ${name} `.length));
  if (signature.subarray(0, 4).toString("hex") !== id) throw new Error("the signature is another key's");
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: keyBytes.subarray(1).toString("base64url") }, format: "jwk" });
  if (!verify(null, Buffer.from(text), publicKey, signature.subarray(4))) throw new Error("the checkpoint's signature is wrong");
  return textOf(parts);
}
