import type { IncomingHttpHeaders } from "node:http";

/** What the headers of a webhook request prove, before its body is read. */
export type Screening =
  /** The secret token is right, and no signature was offered that would have to be right as well. */
  | { readonly kind: "proven" }
  /** A signature is offered that only the body can prove. */
  | { readonly kind: "signed"; readonly proof: BodyProof }
  /** `message` says in words what is missing or wrong; nothing secret is in it. */
  | { readonly kind: "refused"; readonly message: string };

/** A signature that is checked while the body arrives, so that no body has to be kept for it. */
interface BodyProof {
  update(chunk: Uint8Array): void;
  /** To be asked once, after the last chunk. */
  verdict(): boolean;
}

/** An authentic webhook request. */
interface HookRequest {
  readonly headers: IncomingHttpHeaders;
  /** Undefined when it was longer than what is read, or there was no room for it. */
  readonly body: Buffer | undefined;
}

/** Who receives webhooks behind the door. */
export interface WebhookHandler {
  screen(headers: IncomingHttpHeaders): Screening;
  /**
   * Takes an authentic request; resolves once it is durable, with what to tell the sender in words. Rejects only when the store
   * fails and trying again has not helped: the one case in which GitLab is told 503.
   */
  take(request: HookRequest): Promise<string>;
}

/** What `/readyz` says. */
export interface Readiness {
  readonly ready: boolean;
  /** What is missing, in words. */
  readonly problems: readonly string[];
}
