/** The thread in which disks are composed (start-composing.ts). It ends with its work, and tar2sqfs ends with it. */
import { parentPort, workerData } from "node:worker_threads";
import { describeError, FireRunnerError } from "../../base/errors.ts";
import { type ComposeOrder, composeDisk } from "./compose.ts";
import type { ImageDocument } from "./storage.ts";

/** What a thread is told, and what it answers with. */
export type ComposeAnswer =
  | { readonly bytes: number }
  | { readonly code: string | undefined; readonly message: string; readonly hint: string | undefined };

const order = workerData as ComposeOrder;
parentPort?.postMessage(await answerTo(order));

async function answerTo({ manifest, index, config, ...rest }: ComposeOrder): Promise<ComposeAnswer> {
  try {
    const documents = { manifest: whole(manifest), index: index && whole(index), config: whole(config) };
    return { bytes: await composeDisk({ ...rest, ...documents }) };
  } catch (error) {
    const { code, hint } = error instanceof FireRunnerError ? error : {};
    return { code, message: error instanceof FireRunnerError ? error.message : describeError(error), hint };
  }
}

/** A Buffer comes through as plain bytes. */
function whole({ digest, body }: ImageDocument): ImageDocument {
  return { digest, body: Buffer.from(body.buffer, body.byteOffset, body.byteLength) };
}
