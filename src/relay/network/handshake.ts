import type { Socket } from "node:net";
import { isMachineId } from "../../base/ids.ts";

/** The first line of a connection from the network: who calls, and by what it is proved. */
export interface Handshake {
  readonly machineId: string;
  readonly secret: string;
  /** The machine's disk has been booted before: its host has started it again. */
  readonly isAgain: boolean;
}

const LONGEST_BYTES = 128;
const line = /^FIRERUNNER\/1 (fr-[a-z2-7]{8}) ([0-9a-f]{64})( again)?$/;

function parsePreamble(text: string): Handshake | undefined {
  const [, machineId = "", secret = "", again] = line.exec(text) ?? [];
  return isMachineId(machineId) ? { machineId, secret, isAgain: again !== undefined } : undefined;
}

/** Takes the first line, and leaves what follows it in the socket. Undefined when the connection ends or is no guest's. */
export function readHandshake(socket: Socket): Promise<Handshake | undefined> {
  let seen = Buffer.alloc(0);
  return new Promise((resolve) => {
    function finish(text: string): void {
      socket.off("readable", read).off("close", end).off("end", end);
      resolve(parsePreamble(text));
    }
    const end = () => finish("");
    const read = () => {
      const chunk = socket.read() as Buffer | null;
      seen = chunk ? Buffer.concat([seen, chunk]) : seen;
      const lineEnd = lineEndOf(seen);
      if (lineEnd === undefined) return;
      if (lineEnd + 1 < seen.length) socket.unshift(seen.subarray(lineEnd + 1));
      finish(seen.toString("latin1", 0, lineEnd));
    };
    socket.on("readable", read).once("close", end).once("end", end);
  });
}

/** Undefined while it may still come. */
function lineEndOf(seen: Buffer): number | undefined {
  const found = seen.indexOf("\n");
  return found < 0 && seen.length <= LONGEST_BYTES ? undefined : Math.max(0, found);
}
