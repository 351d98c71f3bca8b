/** What the operating system's error codes mean, in words: “ENOENT: no such file or directory, open '/x'” is no sentence for people. */
import { formatHostPort } from "./host-port.ts";

type SystemError = NodeJS.ErrnoException & {
  dest?: string;
  address?: string;
  port?: number;
  hostname?: string;
};

const ofFiles: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  ENOTDIR: "leads through something that is no directory",
  EISDIR: "is a directory",
  EEXIST: "exists already",
  EACCES: "may not be used by this user",
  EPERM: "may not be changed by this user",
  EROFS: "is on a file system that is read-only",
  ENOSPC: "cannot be written: its disk is full",
  EDQUOT: "cannot be written: the user's share of its disk is full",
  ENOTEMPTY: "is not empty",
  ELOOP: "leads through too many links",
  ENAMETOOLONG: "is too long a name",
  EFBIG: "would become too large",
  EIO: "cannot be read or written: its disk has a fault",
  EBUSY: "is in use",
  ETXTBSY: "is in use",
};

const ofProcess: Readonly<Record<string, string>> = {
  EMFILE: "this program has too many files open (raise its limit: LimitNOFILE, ulimit -n)",
  ENFILE: "this computer has too many files open",
  ENOMEM: "this computer has no memory left",
  EAGAIN: "this computer can start no more processes or threads",
};

const ofAddresses: Readonly<Record<string, string>> = {
  EADDRINUSE: "is used by another program",
  EADDRNOTAVAIL: "is no address of this computer",
  EACCES: "may not be used by this user (ports below 1024 are root's)",
};

/** One clause about the file, program or address that the error names. Undefined for an error that is none of the system's. */
export function describeSystemError(error: Error): string | undefined {
  const { code = "", syscall, path, dest = path } = error as SystemError;
  if (syscall === undefined) return undefined;
  if (code in ofProcess) return ofProcess[code];
  if (dest === undefined) return addressProblem(code, syscall, error);
  return about(syscall.startsWith("spawn") ? `the program ${dest}` : dest, ofFiles[code]);
}

function addressProblem(code: string, syscall: string, error: SystemError): string | undefined {
  const where = error.hostname ?? placeOf(error.address, error.port);
  if (syscall === "listen" || syscall === "bind") return about(where, ofAddresses[code]);
  const problem = unreachableProblems[code];
  return problem && (where === "" ? problem : `${where}: ${problem}`);
}

function about(what: string, problem: string | undefined): string | undefined {
  return problem === undefined || what === "" ? undefined : `${what} ${problem}`;
}

function placeOf(address: string | undefined, port: number | undefined): string {
  if (address === undefined) return "";
  return port === undefined ? address : formatHostPort({ host: address, port });
}

/** What the codes mean with which Node and its HTTP client say that a connection failed. */

/** The other side's certificate is not to be trusted. */
export const certificateCode =
  /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET|DECRYPT)|INVALID_CA|HOSTNAME_MISMATCH)/;

/** Something speaks on that port, but not what was expected. */
export const wrongProtocolCode = /^(ERR_SSL_|EPROTO$|HPE_)/;

/** In words, of the other side. */
export const unreachableProblems: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused",
  ENOTFOUND: "its name cannot be resolved",
  EAI_AGAIN: "its name cannot be resolved just now",
  EHOSTUNREACH: "there is no route to it",
  ENETUNREACH: "there is no route to it",
  ETIMEDOUT: "the connection timed out",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  UND_ERR_CONNECT_TIMEOUT: "no connection within 10 s",
  UND_ERR_HEADERS_TIMEOUT: "no answer in time",
  UND_ERR_BODY_TIMEOUT: "the answer stopped halfway",
  UND_ERR_SOCKET: "the connection was cut",
};
