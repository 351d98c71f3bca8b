import { FireRunnerError } from "../base/errors.ts";

export const MAIN_FILE = ".gitlab-ci.yml";

/** Where something stands: in the main file or in one that it includes. Lines count from 1. */
export interface Place {
  readonly file: string;
  readonly line: number;
}

/** A `.gitlab-ci.yml` that says something GitLab would refuse too. The message begins with the place. */
export class CiFileError extends FireRunnerError {
  readonly line: number;

  constructor(place: Place, message: string, options: ErrorOptions = {}) {
    super("ci_file_invalid", `${place.file}, line ${place.line}: ${message}`, {
      ...options,
      hint: "correct the file; GitLab's own check (CI lint) explains its rules in full",
    });
    this.line = place.line;
  }
}

/** Something named is in none of the files. It may stand in one that was left out: then only the job that asks for it is lost. */
export class MissingPartError extends CiFileError {
  readonly part: string;

  constructor(place: Place, message: string, part: string) {
    super(place, message);
    this.part = part;
  }
}

/** A path in which there is no pipeline to read. */
export class CiRepositoryError extends FireRunnerError {
  constructor(message: string, hint: string, options: ErrorOptions = {}) {
    super("ci_repository", message, { ...options, hint });
  }
}
