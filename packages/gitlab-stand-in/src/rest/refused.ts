import { json, type Reply, refuse } from "../exchange.ts";

/** What a handler throws to answer with a refusal. A mistake is one that a well-made client does not make. */
export class Refused extends Error {
  readonly reply: Reply;
  readonly isMistake: boolean;

  constructor(reply: Reply, isMistake = false) {
    super(`refused with ${reply.status}`);
    this.reply = reply;
    this.isMistake = isMistake;
  }
}

/** 404 in GitLab's words: `404 Project Not Found`, or `404 Not found` for what it does not name. */
export function notFound(what?: string): Refused {
  return new Refused(refuse(404, what === undefined ? "404 Not found" : `404 ${what} Not Found`));
}

export function forbidden(reason?: string): Refused {
  return new Refused(refuse(403, reason === undefined ? "403 Forbidden" : `403 Forbidden - ${reason}`));
}

/** 400 of a check behind the parameters. */
export function badRequest(reason: string, isMistake = true): Refused {
  return new Refused(refuse(400, `400 Bad request - ${reason}`), isMistake);
}

/** 400 of a parameter that is missing or has a wrong form: `error` names it. */
export function invalidParameter(error: string): Refused {
  return new Refused(json(400, { error }), true);
}
