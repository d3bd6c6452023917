// DynamiCrafter Strokes has its strokes as text. Here they are drawn over the image as well: a canvas in the node, on which a drag
// writes a line into the text, and which shows what the text says. The text alone is saved and sent.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const NODE = "DynamiCrafterStrokes"
const HEIGHT = 240 // of the canvas at least
const LOOK = 250 // milliseconds; neither kind of page tells of every change of a text, a link or another node's picture
const CLICK = 4 // pixels on the screen: less is no stroke, but a click, which takes the stroke that starts there away
const NEAR = 12 // pixels on the screen around a start
const BENT = 2.5 // pixels on the screen by which a line may differ from what was drawn
const LARGEST = 1024 // side of the canvas, however large the picture is

const SAYS = {
    en: ["Drag to draw a stroke; click on its start to remove it.", "Connect a Load Image node to draw over its picture."],
    zh: ["拖动即可绘制笔画；点击笔画起点可删除它。", "连接“加载图像”节点后，可在其图片上绘制。"],
    ja: ["ドラッグで線を描き、始点をクリックすると消えます。", "「画像を読み込む」ノードをつなぐと、その画像の上に描けます。"],
    ko: ["드래그하면 획을 그리고, 시작점을 클릭하면 지웁니다.", "이미지 로드 노드를 연결하면 그 그림 위에 그릴 수 있습니다."],
}

const says = (which) => (SAYS[app.ui.settings.getSettingValue("Comfy.Locale")] ?? SAYS.en)[which]
const widgetOf = (node, name) => node?.widgets?.find((widget) => widget.name === name)

// The parts of a text between semicolons and line ends, with the points [x, y] of those that are strokes.
function parts(text) {
    return text.split(/[;\n]/).map((part) => {
        const points = part.split("->").map((point) => point.split(",").map((value) => (value.trim() ? Number(value) : NaN)))
        const whole = points.length > 1 && points.every((point) => point.length === 2 && point.every(Number.isFinite))
        return { text: part.trim(), points: whole ? points : null }
    })
}

const strokesOf = (text) => parts(text).flatMap(({ points }) => (points ? [points] : []))

// A line from the first point to the last with the points between that it bends at (Ramer, Douglas and Peucker).
function simplified(points, tolerance) {
    const [[ax, ay], [bx, by]] = [points[0], points.at(-1)]
    const length = Math.hypot(bx - ax, by - ay)
    let most = 0
    let bend = 0
    points.forEach(([x, y], index) => {
        const across = Math.abs((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length
        const apart = length ? across : Math.hypot(x - ax, y - ay)
        if (apart > most) [most, bend] = [apart, index]
    })
    if (most <= tolerance) return [points[0], points.at(-1)]
    return [...simplified(points.slice(0, bend + 1), tolerance).slice(0, -1), ...simplified(points.slice(bend), tolerance)]
}

// Where the picture is that the node gets: a file of a Load Image node, or what its source shows.
function sourceOf(node) {
    let from = node
    let slot = node.inputs?.findIndex((input) => input.name === "image")
    do {
        from = from.getInputNode?.(slot)
        slot = 0
    } while (from?.type === "Reroute")
    const file = from?.comfyClass === "LoadImage" && widgetOf(from, "image")?.value
    if (typeof file !== "string" || !file) return from?.imgs?.[0]?.src ?? null
    const [, path, type] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(file)
    const [subfolder, name] = [path.slice(0, Math.max(0, path.lastIndexOf("/"))), path.slice(path.lastIndexOf("/") + 1)]
    return api.apiURL(`/view?${new URLSearchParams({ filename: name, subfolder, type: type ?? "input" })}`)
}

function addDrawing(node) {
    const text = widgetOf(node, "strokes")
    const canvas = document.createElement("canvas")
    canvas.style.cssText = "width:100%;height:100%;object-fit:contain;touch-action:none;cursor:crosshair"
    const pen = canvas.getContext("2d")
    const picture = new Image()
    let scale = 1 // pixels of the canvas to one of the picture
    let shown = null
    let drawn = null // points of the stroke that is being drawn, in pixels of the picture

    const isLinked = () => node.inputs?.some((input) => input.name === "strokes" && input.link != null)
    const isThere = () => picture.complete && picture.naturalWidth > 0

    // Pixels of the picture to one on the screen: the canvas lies in its box as large as it can be.
    function perScreen() {
        const box = canvas.getBoundingClientRect()
        return 1 / (scale * Math.min(box.width / canvas.width, box.height / canvas.height))
    }

    function placeOf(event) {
        const box = canvas.getBoundingClientRect()
        const per = perScreen()
        const [width, height] = [picture.naturalWidth, picture.naturalHeight]
        const x = (event.clientX - box.left - box.width / 2) * per + width / 2
        const y = (event.clientY - box.top - box.height / 2) * per + height / 2
        return [x, y].map((value, side) => Math.round(Math.min(Math.max(value, 0), [width, height][side])))
    }

    function drawLine(points, width) {
        const places = points.map(([x, y]) => [x * scale, y * scale])
        const [start, end] = [places[0], places.at(-1)]
        const before = places.findLast(([x, y]) => Math.hypot(x - end[0], y - end[1]) > width) ?? start
        const angle = Math.atan2(end[1] - before[1], end[0] - before[0])
        for (const [colour, wide] of [["#000a", 2 * width], ["#fd0", width]]) {
            pen.strokeStyle = pen.fillStyle = colour
            pen.lineWidth = wide
            pen.beginPath()
            places.forEach((place, index) => (index ? pen.lineTo(...place) : pen.moveTo(...place)))
            for (const turn of [-2.6, 2.6]) {
                pen.moveTo(end[0] + 5 * width * Math.cos(angle + turn), end[1] + 5 * width * Math.sin(angle + turn))
                pen.lineTo(...end)
            }
            pen.stroke()
            pen.beginPath()
            pen.arc(...start, 1.5 * wide, 0, 2 * Math.PI)
            pen.fill()
        }
    }

    function redraw() {
        const [width, height] = isThere() ? [picture.naturalWidth, picture.naturalHeight] : [320, 200]
        scale = Math.min(1, LARGEST / Math.max(width, height))
        canvas.width = Math.max(1, Math.round(width * scale))
        canvas.height = Math.max(1, Math.round(height * scale))
        pen.lineCap = pen.lineJoin = "round"
        const thin = Math.max(1, Math.max(canvas.width, canvas.height) / 160)
        if (isThere()) {
            pen.drawImage(picture, 0, 0, canvas.width, canvas.height)
            for (const points of [...strokesOf(text.value), ...(drawn?.length > 1 ? [drawn] : [])]) drawLine(points, thin)
        } else {
            pen.fillStyle = "#8888"
            pen.font = "14px sans-serif"
            pen.textAlign = "center"
            pen.fillText(says(1), canvas.width / 2, canvas.height / 2, canvas.width - 16)
        }
        canvas.title = says(isThere() ? 0 : 1)
    }

    function look() {
        const source = sourceOf(node)
        if (source !== (picture.getAttribute("src") ?? null)) source ? (picture.src = source) : picture.removeAttribute("src")
        const now = JSON.stringify([text.value, picture.src, picture.naturalWidth, drawn?.length])
        if (now === shown) return
        shown = now
        redraw()
    }

    function write(value) {
        text.value = value
        text.callback?.(value)
        node.graph?.setDirtyCanvas(true, true)
        app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.()
    }

    function finish() {
        const path = drawn
        drawn = null
        if (!path) return
        const per = perScreen()
        const far = Math.max(...path.map(([x, y]) => Math.hypot(x - path[0][0], y - path[0][1])))
        if (far >= CLICK * per) {
            const line = simplified(path, BENT * per).map((point) => point.join(",")).join(" -> ")
            write([text.value.replace(/[;\s]+$/, ""), line].filter(Boolean).join("\n"))
        } else {
            const given = parts(text.value)
            const near = given.findLastIndex(
                ({ points }) => points && Math.hypot(points[0][0] - path[0][0], points[0][1] - path[0][1]) < NEAR * per,
            )
            if (near >= 0) write(given.flatMap(({ text }, index) => (index === near || !text ? [] : [text])).join("\n"))
        }
        look()
    }

    // The page below would take a drag for one of the node.
    canvas.addEventListener("pointerdown", (event) => {
        event.stopPropagation()
        if (event.button || !isThere() || isLinked()) return
        event.preventDefault()
        canvas.setPointerCapture(event.pointerId)
        drawn = [placeOf(event)]
    })
    canvas.addEventListener("pointermove", (event) => {
        if (!drawn) return
        event.stopPropagation()
        drawn.push(placeOf(event))
        look()
    })
    canvas.addEventListener("pointerup", finish)
    canvas.addEventListener("pointercancel", () => (drawn = null))
    picture.addEventListener("load", look)

    const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, margin: 4 }
    node.addDOMWidget("drawing", "dynamicrafter_drawing", canvas, options).serialize = false
    const timer = setInterval(look, LOOK)
    const onRemoved = node.onRemoved
    node.onRemoved = function () {
        clearInterval(timer)
        return onRemoved?.apply(this, arguments)
    }
    look()
}

app.registerExtension({
    name: "dynamicrafter.strokes",
    nodeCreated(node) {
        if (node.comfyClass === NODE && widgetOf(node, "strokes")) addDrawing(node)
    },
})
