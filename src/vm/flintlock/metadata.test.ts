import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { guestFunction } from "../../../test/harness/guest-function.ts";
import { guestFile } from "../../base/guest-files.ts";
import { Secret } from "../../base/secret.ts";
import { type GuestMetadata, guestCommandLine, renderMetadata } from "./request.ts";

/** Firecracker's store takes 51,200 bytes; the driver's own limit is below. */
const LIMIT_BYTES = 48_000;

const metadata: GuestMetadata = {
  machineId: "fr-aaaaaaaa",
  link: {
    address: "relay.example.org:8444",
    serverName: "relay.example.org",
    ca: "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
    secret: new Secret("ab".repeat(32)),
  },
  network: { address: "10.77.0.12/24", gateway: "10.77.0.1", nameservers: ["10.77.0.1", "10.77.0.2"] },
  cloudInit: true,
};

test("the machine's document is one value a line", () => {
  expect(renderMetadata(metadata)["firerunner"]).toBe(
    [
      "relay=relay.example.org:8444",
      "server=relay.example.org",
      `secret=${"ab".repeat(32)}`,
      `ca=${Buffer.from(`${metadata.link.ca}\n`).toString("base64")}`,
      "address=10.77.0.12/24",
      "gateway=10.77.0.1",
      "nameservers=10.77.0.1,10.77.0.2",
      "",
    ].join("\n"),
  );
});

test.each([0, 1, 2])("a guest reads back the authority, %i bytes longer", async (more) => {
  const ca = `${"M".repeat(more)}${metadata.link.ca}`;
  const { firerunner: input = "" } = renderMetadata({ ...metadata, link: { ...metadata.link, ca } });
  const script = [
    await guestFunction("relay-link", "read_metadata"),
    'get_metadata() { document=$(cat); }; read_metadata; base64 -d <<<"$given_ca"',
  ].join("\n");
  // As images from before 0.2 read it.
  const scriptBefore = `while IFS='=' read -r name value; do [[ $name != ca ]] || base64 -d <<<"$value"; done`;

  const read = [script, scriptBefore].map((each) =>
    execFileSync("bash", ["-c", each], { input, encoding: "utf8" }).trimEnd(),
  );

  expect(read).toEqual([ca.trimEnd(), ca.trimEnd()]);
});

test("without an address of its own a machine asks for one", () => {
  const network = { address: undefined, gateway: undefined, nameservers: [] };

  expect(renderMetadata({ ...metadata, network })["firerunner"]).toMatch(/\naddress=dhcp\n$/);
});

test("cloud-init puts the very programs of our images in place, and starts them at each boot", () => {
  const { "user-data": text = "" } = renderMetadata(metadata);
  const { write_files: files } = parse(text) as {
    write_files: { path: string; encoding: string; content: string }[];
  };
  const read = (content: string) => gunzipSync(Buffer.from(content, "base64")).toString("utf8");

  expect(text).toMatch(/^#cloud-config\n/);
  expect(files.map(({ encoding }) => encoding)).toEqual(Array(4).fill("gz+b64"));
  expect(files.map(({ path, content }) => [path, read(content)])).toEqual([
    ["/usr/local/lib/firerunner/relay-link", readFileSync(guestFile("relay-link"), "utf8")],
    ["/usr/local/lib/firerunner/shell/bash", readFileSync(guestFile("job-shell"), "utf8")],
    ["/var/lib/cloud/scripts/per-boot/firerunner", readFileSync(guestFile("firerunner-init"), "utf8")],
    ["/etc/profile.d/firerunner.sh", readFileSync(guestFile("login-profile"), "utf8")],
  ]);
});

test("our own images are not told what they have", () => {
  const documents = renderMetadata({ ...metadata, cloudInit: false });

  expect(Object.keys(documents)).toEqual(["meta-data", "firerunner"]);
});

test("the secret is in one document only, and all of them have room, with the largest authority too", () => {
  const ca = `-----BEGIN CERTIFICATE-----\n${"M".repeat(12 * 1024)}\n-----END CERTIFICATE-----\n`;
  const documents = renderMetadata({ ...metadata, link: { ...metadata.link, ca } });
  const holding = Object.entries(documents).filter(([, text]) => text.includes("abab"));
  const bytes = Buffer.byteLength(JSON.stringify({ latest: documents }));

  expect(holding.map(([name]) => name)).toEqual(["firerunner"]);
  // As Firecracker keeps them: flintlockd takes the base64 off that they are sent in.
  expect(bytes).toBeLessThan(LIMIT_BYTES);
});

test("the kernel is told who the machine is and where its relay and metadata are", () => {
  expect(guestCommandLine("fr-aaaaaaaa")).toEqual({
    quiet: "",
    "fr.machine": "fr-aaaaaaaa",
    "fr.relay": "10.0.2.100:80",
    "fr.metadata": "mmds",
  });
});
