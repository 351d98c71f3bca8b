import { request } from "undici";
import { afterEach, describe, expect, test } from "vitest";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

let bench: RelayBench;

afterEach(async () => {
  await bench.close();
});

async function tell({ url }: BenchMachine, query: string): Promise<number> {
  const { statusCode, body } = await request(`${url}/firerunner/use${query}`, { method: "POST" });
  await body.dump();
  return statusCode;
}

describe.each([
  ["on this computer", {}],
  ["on another host", { network: true }],
])("a machine %s", (_name, options) => {
  test("tells what it has used, and the largest of it is kept beside its job, also through a restart", async () => {
    bench = await createRelayBench(options);
    const machine = await bench.machine();
    await machine.handOver();
    const { size, id } = (await bench.store.job(machine.job.id)) ?? expect.fail("there is no job");

    expect(await tell(machine, `?available_mib=${size.memoryMib - 100}&disk_mib=200`)).toBe(204);
    expect(await tell(machine, `?available_mib=${size.memoryMib - 10}`)).toBe(204);
    await bench.restart([machine]);
    expect(await tell(machine, "?disk_mib=100")).toBe(204);

    expect(await bench.store.job(id)).toMatchObject({ peakMemoryMib: 112, peakDiskMib: 256 });
  });

  test("that lies is held to its own size and to its own job, and costs few writes", async () => {
    bench = await createRelayBench(options);
    const [liar, other] = [await bench.machine(), await bench.machine()];
    await liar.handOver();
    let writes = 0;
    const { store } = bench;
    const notePeaks = store.notePeaks.bind(store);
    store.notePeaks = async (...given) => {
      writes += 1;
      return await notePeaks(...given);
    };

    for (let mib = 0; mib < 150; mib++) await tell(liar, `?disk_mib=${mib}`);
    expect(writes).toBeLessThanOrEqual(5);
    expect(await tell(liar, "?available_mib=0&disk_mib=999999999")).toBe(204);
    for (const query of [
      "?disk_mib=-1",
      "?disk_mib=1e9",
      "?disk_mib=",
      "?available_mib=9999999999",
      "?disk_mib=%31",
    ])
      expect([query, await tell(liar, query)]).toEqual([query, 400]);
    // Nobody else's job can be named.
    expect(await tell(liar, `?job=${other.job.id}&disk_mib=4096`)).toBe(204);

    const mine = await store.job(liar.job.id);
    expect(mine).toMatchObject({ peakMemoryMib: mine?.size.memoryMib, peakDiskMib: mine?.size.diskMib });
    expect(await store.job(other.job.id)).toMatchObject({ peakMemoryMib: null, peakDiskMib: null });
  });
});
