import { expect, test } from "vitest";
import { createChunkedWork } from "./admission.ts";

test("the machines have their pieces in turn, each its own in order, however many one has asked for", async () => {
  const { turn } = createChunkedWork();
  const done: string[] = [];
  const ask = (owner: object, name: string) => turn(owner).then(() => done.push(name));
  const [greedy, also, modest] = [{}, {}, {}];
  const all = [
    ...Array.from({ length: 4 }, (_, index) => ask(greedy, `greedy ${index}`)),
    ...Array.from({ length: 2 }, (_, index) => ask(also, `also ${index}`)),
    ask(modest, "modest"),
  ];
  await Promise.all(all);

  const order = ["greedy 0", "also 0", "modest", "greedy 1", "also 1", "greedy 2", "greedy 3"];
  expect(done).toEqual(order);
});

test("there is one piece in a round of the event loop, also for who asks again at once", async () => {
  const { turn } = createChunkedWork();
  const owner = {};
  let done = 0;
  const again = async () => {
    for (let count = 0; count < 5; count++) {
      await turn(owner);
      done += 1;
    }
  };
  const both = Promise.all([again(), again()]);
  let most = 0;
  for (let before = 0; done < 10; before = done) {
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, done - before);
  }
  await both;

  expect(most).toBe(1);
});
