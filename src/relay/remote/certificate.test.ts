import { X509Certificate } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createRecordingLog } from "../../../test/builders/recording-log.ts";
import { makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { HOUR_MS } from "../../base/units.ts";
import { createConfiguredCertificate } from "./certificate.ts";
import { createOwnCertificate } from "./own-certificate.ts";

const DAY_MS = 24 * HOUR_MS;

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-certificate-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("a certificate of our own", () => {
  const clock = createManualClock(Date.now());

  function create(serverName: string, log = silentLog) {
    return createOwnCertificate({ directory: join(directory, "relay"), serverName, clock, log });
  }

  async function server(): Promise<X509Certificate> {
    return new X509Certificate(await readFile(join(directory, "relay", "server.pem")));
  }

  test.each(["relay.example.org", "192.0.2.7", "2001:db8::7", `${"a".repeat(60)}.example.org`])(
    "for %s is signed by the authority and for that name only",
    async (name) => {
      const { ca } = await create(name);
      const [certificate, authority] = [await server(), new X509Certificate(ca)];

      expect(certificate.verify(authority.publicKey)).toBe(true);
      expect(certificate.checkHost(name) ?? certificate.checkIP(name)).toBe(name);
      expect(certificate.checkHost("other.example.org")).toBeUndefined();
      expect([authority.ca, certificate.ca]).toEqual([true, false]);
      // A guest's clock may be behind.
      expect(Date.parse(certificate.validFrom)).toBeLessThan(clock.now() - 23 * HOUR_MS);
    },
  );

  test("is kept over restarts, for this user only", async () => {
    const first = await create("relay.example.org");
    const { fingerprint256 } = await server();
    const again = await create("relay.example.org");
    const modes = ["", "authority.pem", "server.pem"].map((name) => stat(join(directory, "relay", name)));

    expect(again.ca).toBe(first.ca);
    expect((await server()).fingerprint256).toBe(fingerprint256);
    expect((await Promise.all(modes)).map(({ mode }) => mode & 0o777)).toEqual([0o700, 0o600, 0o600]);
    expect(await readdir(join(directory, "relay"))).toEqual(["authority.pem", "server.pem"]);
  });

  test("is renewed a month before its end, while running and by the same authority", async () => {
    const certificate = await create("relay.example.org");
    const [before, context] = [await server(), certificate.context];
    await clock.advance(59 * DAY_MS);
    await certificate.look();
    const kept = await server();
    await clock.advance(2 * DAY_MS);
    await certificate.look();
    const renewed = await server();

    expect(kept.fingerprint256).toBe(before.fingerprint256);
    expect(renewed.fingerprint256).not.toBe(before.fingerprint256);
    expect(renewed.verify(new X509Certificate(certificate.ca).publicKey)).toBe(true);
    expect(certificate.context).not.toBe(context);
    expect(certificate.endsAt()).toBe(Date.parse(renewed.validTo));
  });

  test("is made anew for another name, and when it is damaged", async () => {
    const first = await create("relay.example.org");
    const moved = await create("192.0.2.7");
    expect((await server()).checkIP("192.0.2.7")).toBe("192.0.2.7");
    await writeFile(join(directory, "relay", "server.pem"), "nonsense");
    const { log, lines } = createRecordingLog();
    const mended = await create("192.0.2.7", log);

    expect([moved.ca, mended.ca]).toEqual([first.ca, first.ca]);
    expect((await server()).checkIP("192.0.2.7")).toBe("192.0.2.7");
    expect(lines[0]).toContain("damaged");
  });

  test("is not made by another authority when ours is damaged: machines that run trust only ours", async () => {
    await create("relay.example.org");
    await writeFile(join(directory, "relay", "authority.pem"), "nonsense");

    await expect(create("relay.example.org")).rejects.toMatchObject({
      code: "relay_certificate",
      hint: expect.stringContaining("restore it"),
    });
  });
});

describe("a configured certificate", () => {
  const files = () => ({
    certificateFile: join(directory, "host.pem"),
    keyFile: join(directory, "host.key"),
    caFile: join(directory, "ca.pem"),
  });

  async function write(pair: { cert: string; key: string }, ca: string): Promise<void> {
    await writeFile(files().certificateFile, pair.cert);
    await writeFile(files().keyFile, pair.key, { mode: 0o600 });
    await writeFile(files().caFile, ca);
  }

  function create(serverName: string, log = silentLog) {
    const clock = createManualClock(Date.now());
    return createConfiguredCertificate({ files: files(), serverName, clock, log });
  }

  test("is taken over when its files change, and stays when they become useless", async () => {
    await using authority = await makeCertificateAuthority();
    await write(await authority.issue("relay.example.org", 60), authority.ca);
    const { log, lines } = createRecordingLog();
    const certificate = await create("relay.example.org", log);
    const first = certificate.context;
    await certificate.look();
    const unchanged = lines.length;
    const endedAt = certificate.endsAt();
    await write(await authority.issue("relay.example.org", 61), authority.ca);
    await certificate.look();
    expect(certificate.endsAt()).toBeGreaterThan(endedAt);
    const second = certificate.context;
    await writeFile(files().keyFile, "nonsense");
    await certificate.look();

    expect(certificate.ca).toBe(authority.ca);
    expect(unchanged).toBe(0);
    expect(second).not.toBe(first);
    expect(certificate.context).toBe(second);
    expect(lines).toEqual([
      expect.stringContaining("the relay has a new certificate"),
      expect.stringContaining("cannot be used; the old one stays"),
    ]);
  });

  test("for another name, with another's key or with too many authorities is refused", async () => {
    await using authority = await makeCertificateAuthority();
    const [mine, other] = [
      await authority.issue("relay.example.org"),
      await authority.issue("other.example.org"),
    ];

    await write(mine, authority.ca);
    await expect(create("192.0.2.7")).rejects.toMatchObject({ code: "relay_certificate" });
    await write({ cert: mine.cert, key: other.key }, authority.ca);
    await expect(create("relay.example.org")).rejects.toMatchObject({ code: "relay_certificate" });
    await write(mine, authority.ca.repeat(40));
    await expect(create("relay.example.org")).rejects.toMatchObject({ code: "relay_certificate" });
  });

  test("that ends soon is told of once a day", async () => {
    await using authority = await makeCertificateAuthority();
    await write(await authority.issue("relay.example.org", 3), authority.ca);
    const { log, lines } = createRecordingLog();
    const certificate = await create("relay.example.org", log);
    await certificate.look();
    await certificate.look();

    expect(lines).toEqual([expect.stringContaining("ends soon")]);
  });
});
