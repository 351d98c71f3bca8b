import { X509Certificate } from "node:crypto";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { MIB_BYTES } from "./units.ts";

/** Of a file with authorities. All those of a system have some 250 KiB. */
export const MOST_AUTHORITIES_BYTES = 4 * MIB_BYTES;

/** What we show to a server that asks who we are. */
export interface OwnCertificate {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

/**
 * Trusts the authorities of Node and of the system, and besides them those in `authorities`, each a PEM text. Make it once for many
 * connections: reading hundreds of certificates costs more than a request.
 */
export function trustContext(
  authorities: readonly (string | undefined)[],
  own?: OwnCertificate,
): SecureContext {
  const known = new Set([...getCACertificates("default"), ...getCACertificates("system")]);
  for (const pem of authorities) if (pem !== undefined) known.add(pem);
  return createSecureContext({ ca: [...known], ...(own ? { cert: own.cert, key: own.key } : {}) });
}

const block =
  /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g;

/**
 * Every certificate of a PEM text, in its plain form. TLS ignores what it cannot read, and every connection would fail later with no hint
 * at the file: so this throws an Error that says, in words, what is wrong with the text.
 */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(block) ?? [];
  if (blocks.length === 0) throw new Error("it holds no certificate in PEM form");
  return blocks.map((each, index) => {
    try {
      return new X509Certificate(each);
    } catch (cause) {
      throw new Error(`certificate ${index + 1} of ${blocks.length} in it is damaged`, { cause });
    }
  });
}
