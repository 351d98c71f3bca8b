/** Run as a program: creates a machine, says so, and waits to be killed. `node create-and-die.ts STATE ID IMAGE-JSON` */
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { BootImage } from "../../src/domain/images.ts";
import { VmConfig } from "../../src/vm/config.ts";
import { createQemuDriver } from "../../src/vm/qemu/driver.ts";

const [stateDirectory = "", id = "", image = ""] = process.argv.slice(2);
const settings = VmConfig.parse({ qemu: { accelerator: "tcg" } });
const driver = createQemuDriver({ stateDirectory, settings, clock: systemClock, log: silentLog });
process.stdout.write("creating\n");
const size = { cpus: 1, memoryMib: 128, diskMib: 64 };
await driver.create({ id, size, image: JSON.parse(image) as BootImage }, new AbortController().signal);
process.stdout.write("created\n");
setInterval(() => {}, 60_000);
