const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** 26 characters: 10 of time, 16 of chance. */
export function ulid(now: number, random: () => number): string {
  let time = "";
  for (let rest = now, digit = 0; digit < 10; digit++, rest = Math.floor(rest / 32))
    time = alphabet.charAt(rest % 32) + time;
  const chance = Array.from({ length: 16 }, () => alphabet.charAt(Math.floor(random() * 32)));
  return time + chance.join("");
}
