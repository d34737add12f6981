// The app with express-session and connect-redis, as apps.rs has it:
//
//     node app.js fixed|sliding
//
// It serves until its standard input ends, and first says on which port. Sliding, it is told to extend the session in
// the store and to send the cookie with each response. Otherwise it does neither, which is less than by default.

import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";

const sliding = process.argv[2] === "sliding";
const client = createClient({ url: process.env.CLOAKROOM_TEST_REDIS_URL });
await client.connect();

const app = express();
app.disable("etag");
app.disable("x-powered-by");
app.use(
  session({
    store: new RedisStore({ client, disableTouch: !sliding }),
    secret: "a secret of this bench alone",
    resave: false,
    saveUninitialized: false,
    rolling: sliding,
    cookie: { maxAge: 60 * 60 * 1000 },
  }),
);

app.get("/unused", (request, response) => {
  response.type("text").send("unused");
});

app.get("/read", (request, response) => {
  const { n } = request.session;
  if (n === undefined) {
    response.sendStatus(404);
  } else {
    response.type("text").send(String(n));
  }
});

app.get("/write", (request, response) => {
  const n = (request.session.n ?? 0) + 1;
  request.session.n = n;
  response.type("text").send(String(n));
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(server.address().port);
});

process.stdin.on("end", () => process.exit());
process.stdin.resume();
