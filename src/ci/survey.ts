/**
 * Every job of a `.gitlab-ci.yml`, also those that GitLab does not start for a push and those that the stand-in cannot run, each with all
 * that it inherits.
 */
import type { Notice } from "./definition.ts";
import type { Hash } from "./document.ts";
import { CiFileError, MissingPartError } from "./errors.ts";
import { assemble, type ReadFile } from "./include.ts";
import { draftOf, inherited, perhapsIn, type Reading, read } from "./job.ts";
import { instancesOf } from "./job-names.ts";
import { JobKeywords, jobMakingKeywords } from "./keywords.ts";
import { jobNames, openFile } from "./parse.ts";
import type { Push } from "./push.ts";

export interface SurveyedJob {
  /** Of `parallel` the name of one of the jobs. */
  readonly name: string;
  /** Whether GitLab starts it by itself for this push when all that comes before succeeds. */
  readonly starts: boolean;
  /** Why it does not start, in words. */
  readonly whyNot: string | undefined;
  /** Its keywords; undefined when parts of it stand in a file that was left out, which `lacks` then names. */
  readonly keywords: Hash | undefined;
  readonly lacks: string | undefined;
}

export interface Survey {
  readonly jobs: readonly SurveyedJob[];
  /** What was left out of the file, and where it stands. */
  readonly notices: readonly Notice[];
}

/** Throws CiFileError for what GitLab would refuse. */
export async function surveyPipeline(text: string, push: Push, readFile: ReadFile): Promise<Survey> {
  const assembled = await assemble(text, push, readFile);
  const { reading, hasPipeline } = openFile(assembled, push);
  const noPipeline = hasPipeline ? undefined : "“workflow: rules” start no pipeline for this push";
  const found = jobNames(reading).flatMap((name) => surveyJob(reading, name));
  const jobs = found.map((each) => without(each, noPipeline ?? onlyEnds(found)));
  return { jobs, notices: assembled.notices };
}

interface Found extends SurveyedJob {
  readonly stage: string;
}

function without({ stage: _, ...job }: Found, reason: string | undefined): SurveyedJob {
  return reason === undefined || !job.starts ? job : { ...job, starts: false, whyNot: reason };
}

/** GitLab makes no pipeline of nothing but first and last jobs. */
function onlyEnds(jobs: readonly Found[]): string | undefined {
  const started = jobs.filter(({ starts }) => starts);
  if (started.some(({ stage }) => stage !== ".pre" && stage !== ".post")) return undefined;
  return "GitLab makes no pipeline of jobs in .pre and .post alone";
}

function surveyJob(reading: Reading, name: string): Found[] {
  const { document, globals } = reading;
  const place = document.placeOf(name);
  try {
    const whole = inherited(reading, name, place, { ...globals.others, ...globals.defaults });
    if (!makingKeywords.some((key) => key in whole) && document.leftOut.length === 0)
      throw new CiFileError(place, `“${name}” has no script`);
    const keywords = read(JobKeywords, whole, document, [name]);
    return instancesOf(name, keywords.parallel, document.placeOf(name, "parallel")).map((instance) => {
      const draft = draftOf(reading, name, keywords, instance);
      const whyNot = draft ? reasons[draft.definition.when] : "its rules do not fit this push";
      const { stage = "test" } = keywords;
      return {
        name: instance.name,
        starts: whyNot === undefined,
        whyNot,
        keywords: whole,
        lacks: undefined,
        stage,
      };
    });
  } catch (error) {
    if (!(error instanceof MissingPartError) || document.leftOut.length === 0) throw error;
    const lacks = `it needs ${error.part}, ${perhapsIn(document)}`;
    return [{ name, starts: false, whyNot: "not known", keywords: undefined, lacks, stage: "test" }];
  }
}

const makingKeywords = ["script", ...jobMakingKeywords];

const reasons: Readonly<Record<string, string | undefined>> = {
  manual: "somebody has to start it",
  on_failure: "it starts after a job has failed",
};
