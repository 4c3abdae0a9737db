import { describe, expect, it } from "vitest";
import { readCsv } from "../src/model/csv.ts";
import { duration, moment, size } from "../src/model/format.ts";
import { actionOf, type Pressed } from "../src/model/keys.ts";
import { readNumbers, writeNumbers } from "../src/model/numbers.ts";
import { chunkAt, pictureAt, timeOf, usable } from "../src/model/pictures.ts";
import { lastAtMost, seriesOf } from "../src/model/series.ts";
import { parsePlace, placeTo } from "../src/router.ts";
import type { VideoView } from "../src/types.ts";

describe("CSV", () => {
  it("is read with quotes, doubled quotes, commas and line breaks in cells", () => {
    const found = readCsv('a,"b"\n1,"x, ""y""\nz"\n2,\n');
    expect(found.names).toEqual(["a", "b"]);
    expect(found.cells).toEqual([
      ["1", "2"],
      ['x, "y"\nz', ""],
    ]);
    expect(found.rows).toBe(2);
  });

  it("may have no rows, and no line break at its end", () => {
    expect(readCsv("a,b\n").rows).toBe(0);
    expect(readCsv("a,b\r\n1,2").cells).toEqual([["1"], ["2"]]);
    expect(readCsv("").rows).toBe(0);
  });
});

describe("joints", () => {
  const csv = [
    '"frame_index","timestamp","observation.a.pos","action.a.pos","action.b","columns.x","observation_age_us","extra"',
    '0,2026-01-01 00:00:00Z,1.5,-2,7,1,0,"{""k"": ""v, w""}"',
    "4,2026-01-01 00:00:01Z,,NaN,8,,0,",
    "",
  ].join("\n");

  it("have what was observed beside what was commanded, NaN where there is nothing", () => {
    const found = seriesOf(csv, 2);
    expect([...found.frames]).toEqual([0, 4]);
    expect(found.joints.map((joint) => joint.name)).toEqual(["a.pos", "b"]);
    expect([...found.joints[0]!.state!]).toEqual([1.5, Number.NaN]);
    expect([...found.joints[0]!.action!]).toEqual([-2, Number.NaN]);
    expect(found.joints[1]!.state).toBeNull();
  });

  it("are thinned out if fewer rows came than frames were asked for", () => {
    expect(seriesOf(csv, 2).thinned).toBe(false);
    expect(seriesOf(csv, 3).thinned).toBe(true);
  });

  it("are found by their frame", () => {
    expect([-1, 0, 3, 4, 9].map((frame) => lastAtMost([0, 4], frame))).toEqual([-1, 0, 0, 1, 1]);
    expect(lastAtMost([], 3)).toBe(-1);
  });
});

function chunk(given: Partial<VideoView>): VideoView {
  return {
    id: 1,
    camera_key: "front",
    chunk_index: 0,
    first_frame_index: 0,
    frame_count: 10,
    fps: 30,
    codec: "h264",
    size_bytes: 1,
    width: 640,
    height: 480,
    quarantine: null,
    ...given,
  };
}

describe("pictures", () => {
  const all = [
    chunk({ id: 2, chunk_index: 1, first_frame_index: 20 }),
    chunk({ id: 1 }),
    chunk({ id: 3, chunk_index: 2, first_frame_index: 40, quarantine: "torn" }),
    chunk({ id: 4, camera_key: "wrist" }),
    chunk({ id: 5, chunk_index: 3, first_frame_index: null }),
  ];
  const chunks = usable(all, "front");

  it("come from the camera's chunks that can be shown, in the order of their frames", () => {
    expect(chunks.map((each) => each.id)).toEqual([1, 2]);
  });

  it("are the newest that a frame had seen, also of the chunk before", () => {
    expect([-1, 0, 19, 20, 99].map((frame) => chunkAt(chunks, frame))).toEqual([-1, 0, 0, 1, 1]);
    // A camera of 30 pictures a second, in a loop of 60; one picture was dropped.
    const indices = [20, 22, 26, 28];
    expect([20, 21, 22, 25, 26, 99].map((frame) => pictureAt(indices, frame))).toEqual([0, 0, 1, 1, 2, 3]);
  });

  it("are sought in the middle of the time for which they are shown", () => {
    expect(timeOf(0, 30)).toBeCloseTo(1 / 60);
    expect(timeOf(9, 30)).toBeCloseTo(9.5 / 30);
  });
});

describe("keys", () => {
  const pressed = (given: Partial<Pressed>): Pressed => ({
    code: "",
    key: "",
    shiftKey: false,
    ctrlKey: false,
    metaKey: false,
    altKey: false,
    ...given,
  });

  it("count by their place, whatever the input method makes of them", () => {
    expect(actionOf(pressed({ code: "KeyS", key: "ㄴ" }))).toBe("success");
    expect(actionOf(pressed({ code: "KeyJ", key: "ㅓ" }))).toBe("back");
    expect(actionOf(pressed({ code: "Digit3", key: "3" }))).toBe("digit-3");
    expect(actionOf(pressed({ code: "ArrowLeft", shiftKey: true }))).toBe("ten-back");
  });

  it("leave the browser's own alone", () => {
    expect(actionOf(pressed({ code: "KeyS", ctrlKey: true }))).toBeNull();
    expect(actionOf(pressed({ code: "KeyD", metaKey: true }))).toBeNull();
    expect(actionOf(pressed({ code: "ArrowLeft", altKey: true }))).toBeNull();
    expect(actionOf(pressed({ code: "KeyF", shiftKey: true }))).toBeNull();
    expect(actionOf(pressed({ code: "KeyZ", ctrlKey: true }))).toBe("undo");
  });
});

describe("numbers", () => {
  it("are written as people read them", () => {
    expect([0, 4.24, 59.9, 60, 65, 3723].map(duration)).toEqual([
      "0.0 s",
      "4.2 s",
      "59.9 s",
      "1:00",
      "1:05",
      "1:02:03",
    ]);
    expect([0, 4.236, 59.999, 75.5].map(moment)).toEqual(["0:00.00", "0:04.24", "1:00.00", "1:15.50"]);
    expect([0, 999, 1000, 12_345, 999_600, 4_200_000_000].map(size)).toEqual([
      "0 B",
      "999 B",
      "1.0 kB",
      "12.3 kB",
      "1.0 MB",
      "4.2 GB",
    ]);
  });
});

describe("numbers of sessions", () => {
  it("are written one by one, or as ranges, each counted once", () => {
    expect(readNumbers("1, 2,5-8 7")).toEqual([1, 2, 5, 6, 7, 8]);
    expect(writeNumbers([1, 2, 5, 6, 7, 8, 10])).toBe("1-2, 5-8, 10");
    expect(readNumbers(writeNumbers([3, 4, 9]))).toEqual([3, 4, 9]);
  });

  it("are refused if they are something else, or more than an export may have", () => {
    for (const wrong of ["", "0", "1,x", "8-5", "1-99999", "-3", "1.5"])
      expect(readNumbers(wrong)).toBeNull();
  });
});

describe("addresses", () => {
  it("say a view and its filters, and are read again as they were written", () => {
    const address = placeTo(["sessions", 7], { task: "pick & place/50 %", tag: "" });
    expect(parsePlace(address)).toEqual({ path: ["sessions", "7"], query: { task: "pick & place/50 %" } });
    expect(parsePlace("")).toEqual({ path: [], query: {} });
  });
});
