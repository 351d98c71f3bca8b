import { describeError } from "../base/errors.ts";
import { certificatesIn } from "../base/tls.ts";

/** What is wrong with a file of certificate authorities, in words; undefined when it can be used. */
export function authoritiesProblem({ text, place }: { readonly text: string; readonly place: string }) {
  if (text.includes("PRIVATE KEY-----")) {
    return `${place} holds a private key: name a file with the authorities' certificates alone`;
  }
  try {
    certificatesIn(text);
    return undefined;
  } catch (error) {
    return `${place} cannot be used: ${describeError(error)}`;
  }
}
