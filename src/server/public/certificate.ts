import { readTlsPair, type TlsFiles, type TlsPair } from "../../base/tls.ts";
import { HttpError } from "../errors.ts";

/** Throws HttpError `door_certificate` that says which file is wrong, and how. A certificate that has expired is none. */
export async function readServerPair(files: TlsFiles): Promise<TlsPair> {
  return await readTlsPair(
    files,
    (message, options) =>
      new HttpError("door_certificate", message, {
        hint: "http.tls names a PEM file with the certificate and its chain, and one with its private key.",
        ...options,
      }),
  );
}
