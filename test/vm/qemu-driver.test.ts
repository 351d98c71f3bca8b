import { describeVmDriver } from "../../src/vm/driver.contract.ts";
import { createQemuHarness } from "./qemu-harness.ts";
import { tinyImage } from "./tiny-image.ts";

describeVmDriver("qemu", async () => await createQemuHarness(await tinyImage()));
