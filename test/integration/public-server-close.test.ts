import { expect, test } from "vitest";
import { openTestPublicServer, rawRequest, signed } from "../harness/public-server.ts";
import { openRawSocket } from "../harness/raw-socket.ts";

const body = '{"object_kind":"build"}';
const delivery = () => rawRequest(signed(Buffer.from(body)), body);

/** A server whose store is slow: a delivery is durable when the test says so. */
async function openSlowServer() {
  const asked = Promise.withResolvers<void>();
  const durable = Promise.withResolvers<void>();
  const here = await openTestPublicServer({
    settings: { listen: ["http://127.0.0.1:0", "http://127.0.0.1:0"] },
    beforeTaken: () => {
      asked.resolve();
      return durable.promise;
    },
  });
  return { here, asked: asked.promise, makeDurable: durable.resolve };
}

test("a server that closes answers what is under way, and lets nobody new in at any listener", async () => {
  const { here, asked, makeDurable } = await openSlowServer();
  await using _ = here;
  const [idle, busy] = [await openRawSocket(here.address), await openRawSocket(here.address)];
  idle.write("GET /healthz HTTP/1.1\r\nhost: server\r\n\r\n");
  await idle.receives(/"alive":true/);
  busy.write(delivery());
  await asked;

  const closing = here.server.close();
  await idle.closed;
  for (const address of here.server.addresses)
    await expect(openRawSocket(address)).rejects.toThrow("refused");
  expect(busy.received()).toBe("");
  makeDurable();
  await closing;

  expect((await busy.closed).text).toMatch(/^HTTP\/1\.1 200 .*"taken"/s);
  expect(here.taken).toHaveLength(1);
});

test("a delivery whose headers are still on their way when the public server closes is taken", async () => {
  await using here = await openTestPublicServer();
  const client = await openRawSocket(here.address);
  const text = delivery();

  const closing = here.server.close();
  client.write(text.slice(0, 100));
  setTimeout(() => client.write(text.slice(100)), 200);
  await closing;

  expect((await client.closed).text).toMatch(/^HTTP\/1\.1 200 .*"taken"/s);
  expect(here.taken).toHaveLength(1);
});

test("a request that never ends holds the closing server for some seconds only", {
  timeout: 30_000,
}, async () => {
  await using here = await openTestPublicServer();
  const endless = await openRawSocket(here.address);
  endless.write(rawRequest(signed(Buffer.from(body)), "{", 1_000));
  await expect.poll(() => here.server.counts().openConnections).toBe(1);

  await here.server.close();

  await endless.closed;
  await expect.poll(() => here.server.counts().openConnections).toBe(0);
});

test("a server that is closed can be closed again, and its port is free", async () => {
  await using here = await openTestPublicServer();
  await here.server.close();
  await here.server.close();

  await using again = await openTestPublicServer({ settings: { listen: [here.address] } });
  expect(again.address).toBe(here.address);
});

test("when one address is taken none is opened", async () => {
  await using here = await openTestPublicServer();
  const free = await openTestPublicServer();
  await free.server.close();

  await expect(
    openTestPublicServer({ settings: { listen: [free.address, here.address] } }),
  ).rejects.toMatchObject({
    code: "door_listen",
    message: expect.stringContaining("another program listens there"),
  });
  await expect(openRawSocket(free.address)).rejects.toThrow("refused");
});
