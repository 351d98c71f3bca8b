import { FireRunnerError } from "../../base/errors.ts";

/** A `.gitlab-ci.yml` that says something GitLab would refuse too. The message begins with the line. */
export class CiFileError extends FireRunnerError {
  readonly line: number;

  constructor(line: number, message: string, options: ErrorOptions = {}) {
    super("ci_file_invalid", `.gitlab-ci.yml, line ${line}: ${message}`, {
      ...options,
      hint: "correct the file; GitLab's own check (CI lint) explains its rules in full",
    });
    this.line = line;
  }
}
