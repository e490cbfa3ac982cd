// Says of requests whether they are signed, by npm's library of the Standard Webhooks specification. Reads a JSON list of
// {"key", "headers", "body"} and prints a list of "ok" or what was wrong. The argument is where the library lies.
const { Webhook } = require(process.argv[2]);

let text = "";
process.stdin.on("data", (part) => (text += part));
process.stdin.on("end", () => {
  const outcome = ({ key, headers, body }) => {
    try {
      new Webhook(key).verify(body, headers);
      return "ok";
    } catch (error) {
      return error.message;
    }
  };
  console.log(JSON.stringify(JSON.parse(text).map(outcome)));
});
