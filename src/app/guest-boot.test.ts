import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import { createGuestAuthorities } from "./guest-boot.ts";

let authority: CertificateAuthority;
let other: CertificateAuthority;

beforeAll(async () => {
  [authority, other] = await Promise.all([makeCertificateAuthority(), makeCertificateAuthority()]);
});
afterAll(async () => {
  await Promise.all([authority[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
});

const url = "https://gitlab.example.com";

async function rig() {
  const directory = await temporaryDirectory();
  const warned: unknown[] = [];
  const file = async (name: string, text: string) => {
    const path = join(directory.path, name);
    await writeFile(path, text);
    return path;
  };
  return { directory, warned, file, log: { warn: (fields: object) => void warned.push(fields) } };
}

test("machines get certificates, each once, and never a key that stands beside them", async () => {
  const { directory, file, log, warned } = await rig();
  const { key } = await authority.issue("x");
  const caFile = await file("gitlab.pem", `a comment\n${key}${authority.ca}`);
  const both = await file("guests.pem", other.ca + authority.ca);

  const pem = await createGuestAuthorities(
    { guests: { caFile: both }, gitlab: { url, caFile }, proxy: directRoutes },
    log,
  ).pem();

  expect(pem).toBe(other.ca + authority.ca);
  expect(warned).toEqual([]);
  await directory[Symbol.asyncDispose]();
});

test("what is too large is left out whole and told once; the others are given", async () => {
  const { directory, file, log, warned } = await rig();
  const large = await file("large.pem", rootCertificates.join("\n"));
  const caFile = await file("small.pem", other.ca);
  const authorities = createGuestAuthorities(
    { guests: { caFile }, gitlab: { url, caFile: large }, proxy: directRoutes },
    log,
  );

  expect(await authorities.pem()).toBe(other.ca);
  expect(await authorities.pem()).toBe(other.ca);
  expect(warned).toEqual([{ why: expect.stringContaining("gitlab.caFile is too large") }]);
  await directory[Symbol.asyncDispose]();
});

test("a file that is gone leaves what it last held", async () => {
  const { directory, file, log, warned } = await rig();
  const caFile = await file("ca.pem", authority.ca);
  const authorities = createGuestAuthorities(
    { guests: { caFile }, gitlab: { url }, proxy: directRoutes },
    log,
  );
  await authorities.pem();
  await rm(caFile);

  expect(await authorities.pem()).toBe(authority.ca);
  expect(warned).toHaveLength(1);
  await directory[Symbol.asyncDispose]();
});
