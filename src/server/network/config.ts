/** What the sections of servers to the network have in common. */
import { BlockList, isIP } from "node:net";
import { z } from "zod";

/** An address range: `10.0.0.0/8`, `2001:db8::/32`, or one address. */
export const AddressRange = z
  .string()
  .refine(isRange, "expected an address or a range, such as 10.0.0.0/8 or ::1");

function isRange(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  if (bits === undefined) return true;
  if (!/^\d{1,3}$/.test(bits)) return false;
  try {
    new BlockList().addSubnet(address, Number(bits), family === 6 ? "ipv6" : "ipv4");
    return true;
  } catch {
    return false;
  }
}

const listener = /^(https?:\/\/)?(\[[0-9a-f:.]+\]|[a-z0-9.-]+):(\d{1,5})$/i;

/** Where a server listens: `host:port` and `https://host:port` speak TLS, only `http://host:port` is plain. */
export const Listener = z
  .string()
  .refine(
    (text) => listener.test(text),
    "expected host:port, such as 0.0.0.0:8443, or http://127.0.0.1:8080 without TLS",
  )
  .refine((text) => Number(text.slice(text.lastIndexOf(":") + 1)) <= 65_535, "a port is at most 65535");

/** Files of a certificate and its key, whose places and contents may change while we run. */
export const TlsPaths = z.strictObject({
  certificateFile: z
    .string()
    .meta({ description: "PEM file with the certificate and its chain.", reload: "live" }),
  keyFile: z.string().meta({ description: "PEM file with the private key.", reload: "live" }),
});

function isPlain(listener: string): boolean {
  return /^http:\/\//i.test(listener);
}

/** Without TLS, and reached from elsewhere. */
function isPlainAndFar(listener: string): boolean {
  const [, host = ""] = /^http:\/\/(.*):\d+$/i.exec(listener) ?? [];
  const address = host.replace(/^\[|\]$/g, "").toLowerCase();
  const isNear =
    address === "localhost" || address === "::1" || (isIP(address) === 4 && address.startsWith("127."));
  return isPlain(listener) && !isNear;
}

/** Keys of every private server. `served`: what it serves, as in `/metrics is`. */
export function privateServerKeys(served: string) {
  return {
    listen: z
      .array(Listener)
      .default([])
      .meta({
        description: `Addresses at which ${served} served: host:port speaks TLS, http://host:port is plain and must be of loopback.`,
      }),
    tls: TlsPaths.optional().meta({
      description: "Certificate of the TLS addresses. Both files are read again when they change.",
    }),
    allow: z.array(AddressRange).default([]).meta({
      description: "Clients that may ask, as address ranges; empty: all that reach the address.",
      reload: "live",
    }),
  };
}

/** Without TLS on loopback alone, and TLS only with a certificate. `served` as in `metrics are`. */
export function listeningPrivately<
  Section extends z.ZodType<{ readonly listen: readonly string[]; readonly tls?: unknown }>,
>(section: Section, name: string, served: string): Section {
  return section
    .refine(({ listen, tls }) => tls !== undefined || listen.every(isPlain), {
      path: ["tls"],
      message:
        "an address of “listen” speaks TLS: give tls.certificateFile and tls.keyFile, or write http:// before an address of loopback",
    })
    .refine(({ listen }) => !listen.some(isPlainAndFar), {
      path: ["listen"],
      message: `${served} served without TLS on this computer alone: listen on http://127.0.0.1:PORT, or give ${name}.tls and leave http:// out`,
    });
}
