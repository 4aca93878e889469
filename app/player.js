// One cursor over waveform, mel spectrogram and class probabilities, in step with the sound. See app/player.py.
//
// `data` is one block of bytes: a little-endian length, a JSON header of that length, then the parts it names. Canvases
// are redrawn when the data, the theme or the width changes; the cursor lies on a canvas of its own.

const GUTTER = { left: 58, right: 12, rightWithScale: 62, top: 6, bottom: 36 };
const LANES = { wave: 84, mel: 224, timeline: 150 };
const GAP = 14;
const NARROW_PX = 520; // no room for the level scale
const SEEK_S = 0.1; // an arrow key
const HEAT = [[255, 176, 0], [254, 97, 0], [220, 38, 127]]; // weak to strong; readable with any colour vision
const players = new WeakMap();

export default function (component) {
  const root = component.parentElement;
  let player = players.get(root);
  if (!player) {
    player = build(root);
    players.set(root, player);
  }
  player.theme = theme(root);
  player.choose = (window) => component.setTriggerValue("stretch", window);
  const bytes = component.data;
  if (bytes !== player.bytes) {
    player.bytes = bytes;
    read(player, bytes);
  }
  layout(player);
  return () => release(player);
}

function build(root) {
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const player = {
    root, audio: find("audio"), stage: find("stage"), picture: find("picture"), cursor: find("cursor"),
    readout: find("readout"), legend: find("legend"), mute: find("mute"), frame: 0, url: null, identity: null,
  };
  const { audio, cursor } = player;
  audio.onplay = () => follow(player);
  audio.onerror = () => tell(player, "This browser cannot play this sound. What is shown and answered is of it all the same.");
  audio.onloadstart = () => tell(player, "");
  audio.ontimeupdate = audio.onseeked = audio.onpause = audio.onloadedmetadata = () => point(player);
  cursor.onpointerdown = (event) => {
    cursor.setPointerCapture(event.pointerId);
    seek(player, event);
  };
  cursor.onpointermove = (event) => { if (event.buttons & 1) seek(player, event); };
  cursor.ondblclick = () => { // the cursor stands where it was clicked; a marked stretch can be chosen anew
    if (player.facts.shade) player.choose(nearest(player.facts.timeline.times, audio.currentTime));
  };
  cursor.onkeydown = (event) => {
    const steps = { ArrowLeft: -SEEK_S, ArrowRight: SEEK_S };
    if (event.key in steps) audio.currentTime = clamp(audio.currentTime + steps[event.key], 0, player.facts.duration_s);
    else if (event.key === " ") audio.paused ? audio.play() : audio.pause();
    else return;
    point(player);
    event.preventDefault();
    event.stopPropagation();
  };
  player.observer = new ResizeObserver(() => layout(player));
  player.observer.observe(player.stage);
  return player;
}

function tell(player, text) {
  player.mute.textContent = text;
  player.mute.hidden = !text;
}

function release(player) {
  player.observer.disconnect();
  cancelAnimationFrame(player.frame);
  player.audio.pause();
  if (player.url) URL.revokeObjectURL(player.url);
  players.delete(player.root);
}

function read(player, bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const part = (name) => {
    const [offset, size] = facts.parts[name];
    return bytes.subarray(4 + length + offset, 4 + length + offset + size);
  };
  player.facts = facts;
  player.mel = part("mel");
  player.wave = new Int8Array(part("wave").slice().buffer);
  player.overlay = facts.overlay ? part("overlay") : null;
  if (facts.identity !== player.identity) { // another sound; otherwise it may be playing
    player.identity = facts.identity;
    const old = player.url;
    player.url = URL.createObjectURL(new Blob([part("audio")], { type: facts.mime }));
    player.audio.src = player.url;
    if (old) URL.revokeObjectURL(old);
  }
  player.audio.setAttribute("aria-label", facts.name);
  player.cursor.setAttribute("aria-label", facts.alt);
  player.cursor.setAttribute("aria-valuemax", facts.duration_s.toFixed(2));
}

function theme(root) {
  const style = getComputedStyle(root.host ?? root);
  const value = (name) => style.getPropertyValue(`--st-${name}`).trim();
  const list = (name) => value(name).split(",").map((colour) => colour.trim()).filter(Boolean);
  return {
    text: value("text-color") || "#888", line: value("border-color") || "#8888", primary: value("primary-color"),
    ground: value("background-color") || "#fff", font: style.getPropertyValue("--st-font").trim() || "sans-serif",
    lines: list("chart-categorical-colors"), levels: list("chart-sequential-colors").map(rgb),
  };
}

function layout(player) {
  const width = Math.floor(player.stage.clientWidth);
  if (!player.facts || width < 40) return;
  const { facts } = player;
  const wide = width >= NARROW_PX;
  const lanes = [];
  let top = GUTTER.top;
  for (const name of ["wave", "mel", ...(facts.timeline ? ["timeline"] : [])]) {
    lanes.push({ name, top, height: LANES[name] });
    top += LANES[name] + GAP;
  }
  const bottom = top - GAP;
  player.box = {
    width, height: bottom + GUTTER.bottom, bottom, lanes, wide,
    left: GUTTER.left, right: width - (wide ? GUTTER.rightWithScale : GUTTER.right),
  };
  const scale = window.devicePixelRatio || 1;
  for (const canvas of [player.picture, player.cursor]) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(player.box.height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${player.box.height}px`;
    canvas.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
  }
  player.stage.style.height = `${player.box.height}px`;
  draw(player);
  point(player);
}

function draw(player) {
  const { box, facts, theme: colours } = player;
  const pen = player.picture.getContext("2d");
  pen.clearRect(0, 0, box.width, box.height);
  pen.font = `12px ${colours.font}`;
  pen.textBaseline = "middle";
  const drawers = { wave: drawWave, mel: drawMel, timeline: drawTimeline };
  for (const lane of box.lanes) {
    if (facts.shade && lane.name !== "mel") shade(player, pen, lane);
    drawers[lane.name](player, pen, lane);
    pen.strokeStyle = colours.line;
    pen.strokeRect(box.left + 0.5, lane.top + 0.5, box.right - box.left - 1, lane.height - 1);
  }
  drawTime(player, pen);
  drawLegend(player);
}

function x(player, seconds) {
  const { left, right } = player.box;
  return left + (right - left) * (seconds / player.facts.duration_s);
}

function shade(player, pen, lane) {
  const { start_s: start, end_s: end } = player.facts.shade;
  pen.globalAlpha = 0.12;
  pen.fillStyle = player.theme.text;
  pen.fillRect(x(player, start), lane.top, x(player, end) - x(player, start), lane.height);
  pen.globalAlpha = 1;
}

function label(player, pen, lane, text) {
  pen.save();
  pen.fillStyle = player.theme.text;
  pen.textAlign = "center";
  pen.translate(9, lane.top + lane.height / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText(text, 0, 0);
  pen.restore();
}

function tick(player, pen, y, text) {
  pen.fillStyle = player.theme.text;
  pen.textAlign = "right";
  pen.fillText(text, player.box.left - 6, y);
}

function drawWave(player, pen, lane) {
  const { box, facts, wave, theme: colours } = player;
  const columns = wave.length / 2;
  const middle = lane.top + lane.height / 2;
  const half = lane.height / 2 - 3;
  pen.fillStyle = colours.lines[0] || colours.text;
  const step = (box.right - box.left) / columns;
  for (let i = 0; i < columns; i++) {
    const low = wave[2 * i] / 127, high = wave[2 * i + 1] / 127;
    pen.fillRect(box.left + i * step, middle - high * half, Math.max(step, 0.6), Math.max((high - low) * half, 0.8));
  }
  tick(player, pen, lane.top + 3 + 5, facts.peak);
  tick(player, pen, middle, "0");
  tick(player, pen, lane.top + lane.height - 3 - 5, `−${facts.peak}`);
  label(player, pen, lane, "Amplitude");
}

function drawMel(player, pen, lane) {
  const { box, facts, mel, theme: colours } = player;
  const { rows, columns, hop_s: hop } = facts.mel;
  const image = picture(columns, rows, (put) => {
    const table = levels(colours.levels);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const level = mel[row * columns + column] * 3;
        put(column, rows - 1 - row, table[level], table[level + 1], table[level + 2], 255);
      }
  });
  pen.save();
  pen.beginPath();
  pen.rect(box.left, lane.top, box.right - box.left, lane.height);
  pen.clip();
  const left = x(player, -hop / 2), right = x(player, (columns - 0.5) * hop); // a column is centred on its time
  pen.imageSmoothingEnabled = true;
  pen.drawImage(image, left, lane.top, right - left, lane.height);
  if (facts.overlay) drawOverlay(player, pen, lane);
  pen.restore();
  for (const { row, text } of facts.mel.ticks) {
    tick(player, pen, clamp(lane.top + lane.height * (1 - (row + 0.5) / rows), lane.top + 6, lane.top + lane.height - 6), text);
  }
  label(player, pen, lane, "Frequency (Hz)");
  if (box.wide) drawScale(player, pen, lane);
}

function drawOverlay(player, pen, lane) {
  const { rows, columns, start_s: start, end_s: end } = player.facts.overlay;
  const heat = picture(columns, rows, (put) => {
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const value = player.overlay[row * columns + column] / 255;
        const place = clamp((value - 0.25) / 0.75, 0, 1) * (HEAT.length - 1);
        const below = Math.min(Math.floor(place), HEAT.length - 2);
        const mix = (channel) => HEAT[below][channel] + (place - below) * (HEAT[below + 1][channel] - HEAT[below][channel]);
        put(column, rows - 1 - row, mix(0), mix(1), mix(2), 255 * 0.8 * clamp((value - 0.15) / 0.85, 0, 1));
      }
  });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(heat, x(player, start), lane.top, x(player, end) - x(player, start), lane.height);
}

function drawScale(player, pen, lane) {
  const { box, facts, theme: colours } = player;
  const left = box.right + 10, height = lane.height * 0.6, top = lane.top + lane.height * 0.2;
  const gradient = pen.createLinearGradient(0, top + height, 0, top);
  colours.levels.forEach(([r, g, b], i) => gradient.addColorStop(i / (colours.levels.length - 1), `rgb(${r},${g},${b})`));
  pen.fillStyle = gradient;
  pen.fillRect(left, top, 10, height);
  pen.strokeStyle = colours.line;
  pen.strokeRect(left + 0.5, top + 0.5, 9, height - 1);
  pen.fillStyle = colours.text;
  pen.textAlign = "left";
  pen.fillText(`${facts.mel.high_db}`, left + 14, top + 4);
  pen.fillText(`${facts.mel.low_db}`.replace("-", "−"), left + 14, top + height - 4);
  pen.fillText("dB", left + 14, top + height / 2);
}

function drawTimeline(player, pen, lane) {
  const { facts, theme: colours } = player;
  const { times, lines, unknown } = facts.timeline;
  const y = (p) => lane.top + 8 + (lane.height - 16) * (1 - p);
  for (const p of [0, 0.5, 1]) {
    tick(player, pen, y(p), `${p * 100}\u00a0%`);
    pen.strokeStyle = colours.line;
    pen.globalAlpha = 0.6;
    pen.beginPath();
    pen.moveTo(player.box.left, y(p));
    pen.lineTo(player.box.right, y(p));
    pen.stroke();
    pen.globalAlpha = 1;
  }
  for (let k = lines.length - 1; k >= 0; k--) { // the first lies on top
    const colour = colours.lines[k % colours.lines.length];
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = k === 0 ? 2.5 : 1.75;
    pen.beginPath();
    times.forEach((time, i) => (i ? pen.lineTo : pen.moveTo).call(pen, x(player, time), y(lines[k].values[i])));
    pen.stroke();
    times.forEach((time, i) => {
      pen.beginPath();
      pen.arc(x(player, time), y(lines[k].values[i]), times.length > 80 ? 1.5 : 3, 0, 2 * Math.PI);
      if (unknown[i]) {
        pen.fillStyle = colours.ground;
        pen.fill();
        pen.lineWidth = 1.25;
        pen.stroke();
        pen.fillStyle = colour;
      } else pen.fill();
    });
  }
  pen.lineWidth = 1;
  label(player, pen, lane, "Probability");
}

function drawTime(player, pen) {
  const { box, facts, theme: colours } = player;
  const step = nice(facts.duration_s / Math.max(2, Math.floor((box.right - box.left) / 80)));
  pen.fillStyle = colours.text;
  pen.textAlign = "center";
  for (let time = 0; time <= facts.duration_s + 1e-6; time += step) {
    pen.fillText(String(Math.round(time * 1000) / 1000), x(player, time), box.bottom + 11);
  }
  pen.fillText("Time (s)", (box.left + box.right) / 2, box.bottom + 27);
}

function drawLegend(player) {
  const { facts, legend, theme: colours } = player;
  legend.replaceChildren(...(facts.timeline ? facts.timeline.lines : []).map(({ name }, k) => {
    const entry = document.createElement("span");
    const mark = document.createElement("i");
    mark.style.background = colours.lines[k % colours.lines.length];
    entry.append(mark, name);
    return entry;
  }));
}

function follow(player) {
  cancelAnimationFrame(player.frame);
  const tock = () => {
    point(player);
    if (!player.audio.paused && !player.audio.ended) player.frame = requestAnimationFrame(tock);
  };
  tock();
}

function point(player) {
  const { box, facts, theme: colours, cursor } = player;
  if (!box) return;
  const now = clamp(player.audio.currentTime || 0, 0, facts.duration_s);
  const pen = cursor.getContext("2d");
  pen.clearRect(0, 0, box.width, box.height);
  const at = x(player, now);
  pen.strokeStyle = colours.ground; // a halo: the line is seen on any level of the spectrogram
  pen.lineWidth = 4;
  line(pen, at, box);
  pen.strokeStyle = colours.text;
  pen.lineWidth = 1.75;
  line(pen, at, box);
  cursor.setAttribute("aria-valuenow", now.toFixed(2));
  player.readout.textContent = told(facts, now);
}

function line(pen, at, box) {
  pen.beginPath();
  pen.moveTo(at, box.lanes[0].top);
  pen.lineTo(at, box.bottom);
  pen.stroke();
}

function told(facts, now) {
  const time = `${now.toFixed(2)} s`;
  if (!facts.timeline) return time;
  const { times, lines } = facts.timeline;
  const here = nearest(times, now);
  const ranked = lines.map(({ name, values }) => [values[here], name]).sort((a, b) => b[0] - a[0]).slice(0, 2);
  return [time, ...ranked.map(([p, name]) => `${name} ${percent(p)}`)].join(" · ");
}

function nearest(times, now) {
  let found = 0;
  times.forEach((other, i) => { if (Math.abs(other - now) < Math.abs(times[found] - now)) found = i; });
  return found;
}

function percent(p) {
  return p > 0 && p < 0.01 ? "< 1 %" : p > 0.99 && p < 1 ? "> 99 %" : `${Math.round(p * 100)} %`;
}

function seek(player, event) {
  const { box, facts } = player;
  const share = (event.offsetX - box.left) / (box.right - box.left);
  player.audio.currentTime = clamp(share, 0, 1) * facts.duration_s;
  point(player);
}

function picture(columns, rows, fill) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  fill((column, row, r, g, b, a) => image.data.set([r, g, b, a], 4 * (row * columns + column)));
  pen.putImageData(image, 0, 0);
  return canvas;
}

function levels(colours) {
  const table = new Uint8ClampedArray(256 * 3);
  for (let level = 0; level < 256; level++) {
    const place = (level / 255) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [colours[below][channel], colours[below + 1][channel]];
      table[level * 3 + channel] = from + (place - below) * (to - from);
    }
  }
  return table;
}

function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= step);
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
