/** What the plots of a session draw. Pure. */

import { readCsv } from "./csv.ts";

export interface Joint {
  /** As the robot names it: "shoulder_pan.pos". */
  name: string;
  /** Values of each row; NaN where there is none. */
  state: Float64Array | null;
  action: Float64Array | null;
}

export interface Series {
  /** Index of each row's frame, ascending. */
  frames: Float64Array;
  joints: Joint[];
  /** Whether two rows stand for each stretch of frames: the least and the greatest of its values. */
  thinned: boolean;
}

const STATE = "observation.";
const ACTION = "action.";

/**
 * The joints of a session, each with what was observed beside what was commanded.
 *
 * csv   frames as GET /sessions/{id}/frames gives them as text/csv
 * wanted  frames of the range that was asked for: fewer rows mean that they are thinned out
 */
export function seriesOf(csv: string, wanted: number): Series {
  const { names, cells, rows } = readCsv(csv);
  const joints = new Map<string, Joint>();
  let frames = new Float64Array(rows);
  names.forEach((name, column) => {
    const values = cells[column]!;
    if (name === "frame_index") frames = Float64Array.from(values, Number);
    else if (name.startsWith(STATE)) jointOf(joints, name.slice(STATE.length)).state = numbers(values);
    else if (name.startsWith(ACTION)) jointOf(joints, name.slice(ACTION.length)).action = numbers(values);
  });
  joints.delete("observation_age_us");
  return { frames, joints: [...joints.values()], thinned: rows < wanted };
}

function jointOf(joints: Map<string, Joint>, name: string): Joint {
  let joint = joints.get(name);
  if (joint === undefined) {
    joint = { name, state: null, action: null };
    joints.set(name, joint);
  }
  return joint;
}

function numbers(cells: string[]): Float64Array {
  return Float64Array.from(cells, (cell) => (cell === "" ? Number.NaN : Number(cell)));
}

/** Place in ascending `values` of the last that is at most `value`; -1 if there is none. */
export function lastAtMost(values: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
