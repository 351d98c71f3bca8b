import { randomBytes } from "node:crypto";

/** RFC 4648 base32 in lower case: readable in `ps`, safe in paths, tap names and host names. */
const alphabet = "abcdefghijklmnopqrstuvwxyz234567";

/** `fr-` and 8 random base32 letters (40 bits): 11 characters, so that a tap name (15) can carry it. */
export function newMachineId(random: (size: number) => Uint8Array = randomBytes): string {
  return `fr-${eightLetters(random)}`;
}

/** `r-` and 8 random base32 letters: one of our runners, in its description in GitLab. */
export function newRunnerKey(random: (size: number) => Uint8Array = randomBytes): string {
  return `r-${eightLetters(random)}`;
}

function eightLetters(random: (size: number) => Uint8Array): string {
  return Array.from(random(8), (byte) => alphabet[byte % 32]).join("");
}

/** True for the exact form that `newMachineId` makes; anything else must never become part of a path. */
export const machineIdForm = /^fr-[a-z2-7]{8}$/;

export function isMachineId(text: string): boolean {
  return machineIdForm.test(text);
}
