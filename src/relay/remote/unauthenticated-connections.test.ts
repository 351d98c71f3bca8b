import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { expect, test } from "vitest";
import { createUnauthenticatedConnections } from "./remote-listener.ts";

/** As much of a socket as there is to it here; closes a moment after it was destroyed, as real ones do. */
class Connection extends EventEmitter {
  readonly remoteAddress: string;
  destroyed = false;

  constructor(remoteAddress: string) {
    super();
    this.remoteAddress = remoteAddress;
  }

  destroy(): void {
    this.destroyed = true;
    setImmediate(() => this.emit("close"));
  }
}

function arrive(unauthenticated: ReturnType<typeof createUnauthenticatedConnections>, address: string) {
  const connection = new Connection(address);
  const known = unauthenticated.add(connection as unknown as Socket);
  return { connection, known };
}

test("the oldest of an address gives way to its next, and of all to anybody's", async () => {
  let displaced = 0;
  const unauthenticated = createUnauthenticatedConnections({
    onDisplaced: () => displaced++,
    most: { total: 4, perAddress: 2 },
  });
  const a = [1, 2, 3].map(() => arrive(unauthenticated, "192.0.2.1").connection);
  const afterThree = a.map(({ destroyed }) => destroyed);
  const others = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(
    (address) => arrive(unauthenticated, address).connection,
  );

  expect(afterThree).toEqual([true, false, false]);
  expect(a.map(({ destroyed }) => destroyed)).toEqual([true, true, false]);
  expect(others.map(({ destroyed }) => destroyed)).toEqual([false, false, false]);
  expect(displaced).toBe(2);
});

test("whoever is known or gone counts no more", async () => {
  const unauthenticated = createUnauthenticatedConnections({
    onDisplaced: () => {},
    most: { total: 10, perAddress: 1 },
  });
  const proved = arrive(unauthenticated, "192.0.2.1");
  proved.known();
  const gone = arrive(unauthenticated, "192.0.2.1").connection;
  gone.destroy();
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  const last = arrive(unauthenticated, "192.0.2.1").connection;

  expect([proved.connection.destroyed, last.destroyed]).toEqual([false, false]);
  unauthenticated.clear();
  expect([proved.connection.destroyed, last.destroyed]).toEqual([false, true]);
});
