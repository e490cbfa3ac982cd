// The two flows for Restate. The first argument is the port to listen on.
import * as http2 from "node:http2";

// Newer versions of the library ask this of Node, which has it from 22 on.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new this((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
};
const restate = await import("@restatedev/restate-sdk");

const three = restate.service({
  name: "three",
  handlers: {
    run: async (ctx, name) => {
      await ctx.run("first", () => `Hello ${name}`);
      await ctx.run("second", () => "Please keep to the plan of your medicines.");
      await ctx.run("third", () => "Please come to see us next week.");
      return "done";
    },
  },
});

const signal = restate.workflow({
  name: "signal",
  handlers: {
    run: async (ctx) => {
      await ctx.promise("signal");
      await ctx.sleep(1000);
      return "done";
    },
    tell: async (ctx) => {
      await ctx.promise("signal").resolve("told");
    },
  },
});

const handler = restate.createEndpointHandler({ services: [three, signal] });
http2.createServer(handler).listen(Number(process.argv[2]), "127.0.0.1");
