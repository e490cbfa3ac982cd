// A message centre for the tests, over npm's `smpp`, which nobody here wrote.
//
//   node centre.js MODULES SYSTEM_ID PASSWORD [KEY CERTIFICATE]
//
// Prints {"port": N}, then {"message": …} for each submit_sm that it took, {"bound": N} for each bind, {"refused": N} for
// each that it didn't take, {"unbound": N} for each unbind, and {"answered": …} for the answer to what it brought. All that
// was sent to it stands in {"octets": …}, in hexadecimal digits. Reads commands from standard input, one JSON object a line:
//
//   {"next": [PLAN…]}  what it does with the next submit_sm: a status, or "drop" (the connection, before it takes it),
//                      "take_and_drop", "take_and_hang" (no answer), "hold" (no answer before "release"),
//                      "receipt_first" (a receipt that it arrived, and the answer once that was answered),
//                      "receipt_beside" (the answer a moment after the receipt), or {"name": NAME} (taken, and called so)
//   {"release": true}  answers what is held
//   {"bring": {…}}     sends a deliver_sm with these members to the session that was bound last
//   {"data": {…}}      the same as data_sm
//   {"burst": [{…}…]}  sends several deliver_sm at once, and tells the highest status of their answers
//   {"raw": HEX}       sends octets as they are, and says nothing
//   {"drop": true}, {"unbind": true}, {"mute": true | false} (answers no enquire_link), {"shut": true | false} (refuses
//   binds)
'use strict';
const [modules, systemId, password, key, certificate] = process.argv.slice(2);
const fs = require('fs');
const smpp = require(modules + '/smpp');
const readline = require('readline');

const say = value => process.stdout.write(JSON.stringify(value) + '\n');
const read = smpp.PDU.prototype.fromBuffer;
smpp.PDU.prototype.fromBuffer = function (buffer) {
  this.octets = buffer.toString('hex');
  say({ octets: this.octets });
  return read.call(this, buffer);
};

let planned = [];
let sessions = [];
let held = [];
let bound = null;
let pending = [];
let [binds, refused, unbinds, count, outstanding, most] = [0, 0, 0, 0, 0, 0];
let [mute, shut] = [false, false];

// Brings several at once, and tells the highest status of their answers, or null where the session ends before.
const brings = (send, all) => {
  const statuses = [];
  let told = false;
  const tell = status => {
    if (!told) say({ answered: status });
    told = true;
  };
  pending.push({ session: bound, tell });
  all.forEach(one => bound[send](one, answer => {
    statuses.push(answer.command_status);
    if (statuses.length === all.length) tell(Math.max(...statuses));
  }));
};

const receipt = (pdu, id) => ({
  esm_class: 4, source_addr_ton: 1, source_addr_npi: 1, source_addr: pdu.destination_addr, destination_addr: pdu.source_addr,
  receipted_message_id: id, message_state: 2, user_message_reference: pdu.user_message_reference,
  short_message: `id:${id} sub:001 dlvrd:001 submit date:2611300000 done date:2611300000 stat:DELIVRD err:000 text:`,
});

const taken = session => {
  sessions.push(session);
  session.on('error', () => {});
  session.on('close', () => {
    sessions = sessions.filter(one => one !== session);
    pending.filter(one => one.session === session).forEach(one => one.tell(null));
    pending = pending.filter(one => one.session !== session);
  });
  session.on('bind_transceiver', pdu => {
    if (shut || pdu.system_id !== systemId || pdu.password !== password) {
      session.send(pdu.response({ command_status: smpp.ESME_RBINDFAIL }));
      session.close();
      refused += 1;
      say({ refused });
      return;
    }
    bound = session;
    binds += 1;
    session.send(pdu.response({ system_id: 'centre' }));
    say({ bound: binds });
  });
  session.on('enquire_link', pdu => { if (!mute) session.send(pdu.response()); });
  session.on('unbind', pdu => {
    session.send(pdu.response());
    session.close();
    unbinds += 1;
    say({ unbound: unbinds });
  });
  session.on('submit_sm', pdu => {
    const plan = planned.length ? planned.shift() : 0;
    if (plan === 'drop') { session.destroy(); return; }
    if (typeof plan === 'number' && plan !== 0) {
      session.send(pdu.response({ command_status: plan }));
      return;
    }
    count += 1;
    outstanding += 1;
    most = Math.max(most, outstanding);
    const id = plan.name !== undefined ? plan.name : 'm' + String(count).padStart(9, '0');
    const text = pdu.message_payload ? pdu.message_payload.message : pdu.short_message.message;
    const answer = () => { outstanding -= 1; session.send(pdu.response({ message_id: id })); };
    say({ message: {
      id, to: pdu.destination_addr, from: pdu.source_addr, text: String(text), octets: pdu.octets,
      coding: pdu.data_coding, receipts: pdu.registered_delivery, mark: pdu.user_message_reference,
      payload: pdu.message_payload !== undefined, ton: pdu.dest_addr_ton, source_ton: pdu.source_addr_ton, most,
    } });
    switch (plan) {
      case 'take_and_drop': outstanding -= 1; session.destroy(); return;
      case 'take_and_hang': outstanding -= 1; return;
      case 'hold': held.push(answer); return;
      case 'receipt_first': session.deliver_sm(receipt(pdu, id), answer); return;
      case 'receipt_beside': session.deliver_sm(receipt(pdu, id)); setTimeout(answer, 150); return;
      default: answer();
    }
  });
};

const files = key ? { key: fs.readFileSync(key), cert: fs.readFileSync(certificate) } : {};
const server = smpp.createServer(files, taken);
server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
readline.createInterface({ input: process.stdin }).on('line', line => {
  const command = JSON.parse(line);
  if (command.bring || command.data) {
    if (!bound || !sessions.includes(bound)) { say({ answered: null }); return; }
    if (command.bring) brings('deliver_sm', [command.bring]);
    else brings('data_sm', [command.data]);
    return;
  }
  if (command.burst) {
    brings('deliver_sm', command.burst);
    return;
  }
  if (command.next) planned = command.next;
  if (command.release) { held.forEach(answer => answer()); held = []; }
  if (command.mute !== undefined) mute = command.mute;
  if (command.shut !== undefined) shut = command.shut;
  if (command.drop) sessions.forEach(session => session.destroy());
  if (command.unbind) bound.unbind(() => bound.close());
  if (command.raw) bound.socket.write(Buffer.from(command.raw, 'hex'));
  say({ ready: true });
}).on('close', () => process.exit(0));
