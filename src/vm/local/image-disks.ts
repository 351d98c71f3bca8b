/**
 * A machine's image disks, opened by this program and inherited by the hypervisor: what lies in them may be for one job alone, so no other
 * user needs to be able to read the files, and a hypervisor that was taken over finds those of its own machine only.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";

interface OpenDisks extends AsyncDisposable {
  /** In the order of the machine's disks. */
  readonly open: readonly FileHandle[];
}

/** Throws `vm_bad_spec` when one is not a file that this program can read. Closing them takes nothing from who has inherited them. */
export async function openImageDisks({ id, imageDisks = [] }: MachineSpec): Promise<OpenDisks> {
  const handles: FileHandle[] = [];
  const closeAll = async () => void (await Promise.all(handles.map((handle) => handle.close())));
  try {
    for (const path of imageDisks) handles.push(await openDisk(id, path));
  } catch (error) {
    await closeAll();
    throw error;
  }
  return { open: handles, [Symbol.asyncDispose]: closeAll };
}

async function openDisk(id: string, path: string): Promise<FileHandle> {
  let handle: FileHandle | undefined;
  try {
    // Without O_NONBLOCK a pipe in a disk's place would be waited for.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await handle.stat()).isFile()) throw new Error("it is not a plain file");
    return handle;
  } catch (cause) {
    await handle?.close();
    throw new VmError("vm_bad_spec", `the image disk ${path} of machine ${id} cannot be opened`, {
      cause,
      hint: "a disk must stay where it is until its machine runs; let the job run again",
    });
  }
}
