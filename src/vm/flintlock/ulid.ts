const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** When a ULID was made, by the clock of who made it: its first 10 letters are milliseconds. Undefined for any other text. */
export function ulidTime(uid: string): number | undefined {
  if (!/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(uid)) return undefined;
  return Array.from(uid.slice(0, 10)).reduce((time, letter) => time * 32 + alphabet.indexOf(letter), 0);
}
