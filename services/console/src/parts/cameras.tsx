/** All cameras of a recording, each at the picture of the present frame. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useKnown } from "../context.tsx";
import { chunkAt, usable } from "../model/pictures.ts";
import { Camera, contentOf, type Shown, type Trouble } from "../player/camera.ts";
import type { Transport } from "../player/transport.ts";
import type { CameraCoverage, VideoView } from "../types.ts";

interface Props {
  videos: VideoView[];
  coverage: CameraCoverage[];
  transport: Transport;
}

export function Cameras({ videos, coverage, transport }: Props) {
  const { say } = useKnown();
  const [large, setLarge] = useState<string | null>(null);
  if (coverage.length === 0) return <p class="quiet nothing">{say("noCameras")}</p>;
  return (
    <div class={`cameras of-${Math.min(coverage.length, 4)} ${large ? "one-large" : ""}`}>
      {coverage.map((camera) => (
        <OneCamera
          key={camera.camera_key}
          camera={camera}
          videos={videos}
          transport={transport}
          large={large === camera.camera_key}
          onLarge={() => setLarge(large === camera.camera_key ? null : camera.camera_key)}
        />
      ))}
    </div>
  );
}

interface OneProps {
  camera: CameraCoverage;
  videos: VideoView[];
  transport: Transport;
  large: boolean;
  onLarge: () => void;
}

function OneCamera({ camera, videos, transport, large, onLarge }: OneProps) {
  const { say } = useKnown();
  const first = useRef<HTMLVideoElement>(null);
  const second = useRef<HTMLVideoElement>(null);
  const figure = useRef<HTMLElement>(null);
  const age = useRef<HTMLSpanElement>(null);
  const [trouble, setTrouble] = useState<{ kind: Trouble; chunk: VideoView } | null>(null);
  const [missing, setMissing] = useState<string | null>(null);
  const chunks = useMemo(() => usable(videos, camera.camera_key), [videos, camera.camera_key]);
  const [player, setPlayer] = useState<Camera | null>(null);
  const words = useRef(say);
  words.current = say;

  useEffect(() => {
    if (chunks.length === 0) return;
    const show = ({ frame, taken }: Shown) => {
      const hole = camera.uncovered.find((each) => each.first <= frame && frame < each.end);
      setTrouble(null);
      setMissing(hole ? hole.reason : taken === null ? "" : null);
      figure.current!.dataset["frame"] = String(frame);
      figure.current!.dataset["taken"] = taken === null ? "" : String(taken);
      age.current!.textContent =
        taken === null
          ? ""
          : taken === frame
            ? words.current("pictureNow")
            : words.current("pictureAge", { frame: taken });
    };
    const made = new Camera(chunks, [first.current!, second.current!], show, (kind, chunk) =>
      setTrouble({ kind, chunk }),
    );
    setPlayer(made);
    return () => made.close();
  }, [chunks, camera]);
  // Another stretch of the same recording goes on with what is loaded.
  useEffect(
    () => (player?.closed === false ? transport.follow((frame) => player.show(frame)) : undefined),
    [player, transport],
  );

  const chunk = chunks[Math.max(0, chunkAt(chunks, transport.frame))];
  return (
    <figure ref={figure} class={large ? "large" : ""} data-camera={camera.camera_key}>
      <div
        class="picture"
        style={chunk?.width && chunk.height ? { aspectRatio: `${chunk.width} / ${chunk.height}` } : {}}
      >
        <video ref={first} muted playsInline preload="auto" aria-label={camera.camera_key} />
        <video ref={second} hidden muted playsInline preload="auto" aria-label={camera.camera_key} />
        {chunks.length === 0 && <p>{say("awaitingVideo")}</p>}
        {missing !== null && !trouble && (
          <p>
            {say(missing ? "noPicture" : "noPictureYet")}
            {missing && <small>{missing}</small>}
          </p>
        )}
        {trouble && (
          <p>
            {trouble.kind === "codec"
              ? say("codecTrouble", { codec: trouble.chunk.codec ?? "?" })
              : say("videoGone")}{" "}
            <a href={contentOf(trouble.chunk)} download>
              {say("download")}
            </a>
          </p>
        )}
      </div>
      <figcaption>
        <b>{camera.camera_key}</b>
        <span ref={age} class="age" />
        <button
          type="button"
          class="plain"
          aria-pressed={large}
          aria-label={say(large ? "shrink" : "enlarge", { camera: camera.camera_key })}
          onClick={onLarge}
        >
          {large ? "⤡" : "⤢"}
        </button>
      </figcaption>
    </figure>
  );
}
