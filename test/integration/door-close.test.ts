import { expect, test } from "vitest";
import { openTestDoor, rawRequest, signed } from "../harness/door.ts";
import { openRawSocket } from "../harness/raw-socket.ts";

const body = '{"object_kind":"build"}';
const delivery = () => rawRequest(signed(Buffer.from(body)), body);

/** A door whose store is slow: a delivery is durable when the test says so. */
async function openSlowDoor() {
  const asked = Promise.withResolvers<void>();
  const durable = Promise.withResolvers<void>();
  const here = await openTestDoor({
    settings: { listen: ["http://127.0.0.1:0", "http://127.0.0.1:0"] },
    beforeTaken: () => {
      asked.resolve();
      return durable.promise;
    },
  });
  return { here, asked: asked.promise, makeDurable: durable.resolve };
}

test("a door that closes answers what is under way, and lets nobody new in at any listener", async () => {
  const { here, asked, makeDurable } = await openSlowDoor();
  await using _ = here;
  const [idle, busy] = [await openRawSocket(here.address), await openRawSocket(here.address)];
  idle.write("GET /healthz HTTP/1.1\r\nhost: door\r\n\r\n");
  await idle.receives(/"alive":true/);
  busy.write(delivery());
  await asked;

  const closing = here.door.close();
  await idle.closed;
  for (const address of here.door.addresses) await expect(openRawSocket(address)).rejects.toThrow("refused");
  expect(busy.received()).toBe("");
  makeDurable();
  await closing;

  expect((await busy.closed).text).toMatch(/^HTTP\/1\.1 200 .*"taken"/s);
  expect(here.taken).toHaveLength(1);
});

test("a delivery whose headers are still on their way when the public server closes is taken", async () => {
  await using here = await openTestDoor();
  const client = await openRawSocket(here.address);
  const text = delivery();

  const closing = here.door.close();
  client.write(text.slice(0, 100));
  setTimeout(() => client.write(text.slice(100)), 200);
  await closing;

  expect((await client.closed).text).toMatch(/^HTTP\/1\.1 200 .*"taken"/s);
  expect(here.taken).toHaveLength(1);
});

test("a request that never ends holds the closing door for some seconds only", {
  timeout: 30_000,
}, async () => {
  await using here = await openTestDoor();
  const endless = await openRawSocket(here.address);
  endless.write(rawRequest(signed(Buffer.from(body)), "{", 1_000));
  await expect.poll(() => here.door.counts().openConnections).toBe(1);
  const began = performance.now();

  await here.door.close();

  expect(performance.now() - began).toBeLessThan(20_000);
  await endless.closed;
  await expect.poll(() => here.door.counts().openConnections).toBe(0);
});

test("a door that is closed can be closed again, and its port is free", async () => {
  await using here = await openTestDoor();
  await here.door.close();
  await here.door.close();

  await using again = await openTestDoor({ settings: { listen: [here.address] } });
  expect(again.address).toBe(here.address);
});

test("when one address is taken none is opened", async () => {
  await using here = await openTestDoor();
  const free = await openTestDoor();
  await free.door.close();

  await expect(openTestDoor({ settings: { listen: [free.address, here.address] } })).rejects.toMatchObject({
    code: "door_listen",
    message: expect.stringContaining("another program listens there"),
  });
  await expect(openRawSocket(free.address)).rejects.toThrow("refused");
});
