//! A network as PyTorch: text that a person pastes into a script.

use std::path::Path;

use super::order::Order;
use super::stages::{Kind, LayerNormShape, Pads, Stage, stages};
use crate::checkpoint::SavedModel;
use crate::data::{Normalize, RowShape};
use crate::error::Result;
use crate::kernels::PoolShape;
use crate::model::zoo;

/// Of a line of modules.
const WIDTH: usize = 100;

/// The network, whose modules have the names of our layers; it takes channels first. One `nn.Sequential` where a layer reads the one in
/// front of it, else a class of its own. `None` where a layer has no such module.
pub fn network(stages: &[Stage<'_>]) -> Option<Network> {
    if stages.last().is_some_and(|last| last.is_scattered) {
        // What comes out of a last "flatten" would be in another order.
        return None;
    }
    let definition = if stages.iter().any(|stage| is_image_norm(&stage.kind)) { LAYER_NORM } else { "" };
    let follows = |(index, stage): (usize, &Stage<'_>)| stage.inputs[..] == [index.checked_sub(1)];
    let is_called = |stage: &Stage<'_>| matches!(stage.kind, Kind::Flatten(_, Order::ChannelsLast));
    if stages.iter().enumerate().all(follows) && !stages.iter().any(is_called) {
        let modules: Option<Vec<Vec<String>>> =
            stages.iter().map(|stage| module(&attribute(stage), &stage.kind)).collect();
        let network = format!("nn.Sequential(OrderedDict(\n    {}))", wrapped(&modules?.concat()));
        return Some(Network { definition: definition.to_owned(), network });
    }
    let (mut modules, mut lines) = (Vec::new(), Vec::new());
    let value = |stage: &Option<usize>| stage.map_or("x", |stage| stages[stage].name.as_str());
    for stage @ Stage { name, kind, inputs, .. } in stages {
        let values: Vec<&str> = inputs.iter().map(value).collect();
        lines.push(match kind {
            Kind::Flatten([h, w, _], Order::ChannelsLast) if h * w > 1 => {
                format!("{name} = {}.permute(0, 2, 3, 1).flatten(1)", values[0])
            }
            Kind::Flatten(_, Order::ChannelsLast) => format!("{name} = {}.flatten(1)", values[0]),
            Kind::Add => format!("{name} = {}", values.join(" + ")),
            Kind::Scale { is_image } => {
                let axes = if *is_image { "[:, :, None, None]" } else { "" };
                format!("{name} = {} * {}{axes}", values[0], values[1])
            }
            Kind::Concat => format!("{name} = torch.cat(({}), 1)", values.join(", ")),
            _ => {
                let own = module(&attribute(stage), kind)?;
                let names = own.iter().filter_map(|module| module.split_once('=')).map(|(name, _)| name);
                let call = names.fold(values[0].to_owned(), |call, module| format!("self.{module}({call})"));
                modules.extend(own.iter().map(|module| format!("self.{}", module.replacen('=', " = ", 1))));
                format!("{name} = {call}")
            }
        });
    }
    let definition = format!(
        "{definition}class Network(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {}\n\n    \
         def forward(self, x):\n        {}\n        return {}\n\n",
        modules.join("\n        "),
        lines.join("\n        "),
        stages.last().map_or("x", |last| last.name.as_str())
    );
    Some(Network { definition, network: "Network()".to_owned() })
}

/// What the module of a layer is called here: attributes have no points in their names, and do not begin with digits.
fn attribute(stage: &Stage<'_>) -> String {
    let has_own = stage.kind.weights().is_some() && stage.key != stage.name;
    if has_own { format!("m_{}", stage.key.replace('.', "_")) } else { stage.name.clone() }
}

/// The same network in a library of PyTorch's, where there is one that has the weights under the same keys.
fn twin(saved: &SavedModel) -> Option<String> {
    let spec = &saved.model.spec;
    let (library, call) = match spec.name.as_str() {
        name @ ("resnet18" | "resnet34" | "resnet50" | "mobilenet_v2") => {
            ("torchvision", format!("torchvision.models.{name}(num_classes={})", saved.model.classes))
        }
        "efficientnet_lite0" => {
            let classes = saved.model.classes;
            ("timm", format!("timm.create_model(\"tf_efficientnet_lite0\", num_classes={classes})"))
        }
        _ => return None,
    };
    let is_same = zoo::find(&spec.name).is_ok_and(|known| known == *spec) && saved.shape.hwc()[2] == 3;
    is_same
        .then(|| format!("import {library}\nimport torch\nfrom safetensors.torch import load_file\n\nnet = {call}\n"))
}

/// The channels of every pixel by their own mean and variance, where PyTorch's module takes the last axis.
const LAYER_NORM: &str = "class LayerNorm2d(nn.LayerNorm):\n    def forward(self, x):\n        \
                          return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)\n\n\n";

fn is_image_norm(kind: &Kind<'_>) -> bool {
    matches!(kind, Kind::LayerNorm(LayerNormShape { is_image: true, .. }, _))
}

/// A network as text.
pub struct Network {
    /// What comes first: a class, where there is one.
    pub definition: String,
    /// The expression that makes it.
    pub network: String,
}

/// Several to a line, as long as they fit.
fn wrapped(modules: &[String]) -> String {
    let mut lines = vec![String::new()];
    for (index, module) in modules.iter().enumerate() {
        let text = format!("{module}{}", if index + 1 < modules.len() { "," } else { "" });
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = text,
            Some(line) if line.len() + text.len() < WIDTH => *line += &format!(" {text}"),
            _ => lines.push(text),
        }
    }
    lines.join("\n    ")
}

/// The modules of one layer.
fn module(name: &str, kind: &Kind<'_>) -> Option<Vec<String>> {
    let one = |text: String| Some(vec![format!("{name}={text}")]);
    match kind {
        Kind::Conv(s, weights) => {
            let pads = Pads::of_conv(s);
            let conv = format!("nn.Conv2d({}, {}, {}", s.c_in, s.c_out, pair(s.kh, s.kw));
            let option = |name: &str, n: usize| if n > 1 { format!(", {name}={n}") } else { String::new() };
            let stride = option("stride", s.stride);
            let bias = if weights.bias.is_empty() { ", bias=False" } else { "" };
            let rest = format!("{}{}{bias}", option("dilation", s.dilation), option("groups", s.groups));
            let even = pads.even() || Pads::floors([s.h_in, s.w_in], [s.h_out, s.w_out], s.extent(), s.stride, pads);
            match even {
                true if pads.none() => one(format!("{conv}{stride}{rest})")),
                true => one(format!("{conv}{stride}, padding={}{rest})", pair(pads.top, pads.left))),
                false => Some(vec![
                    format!("{name}_pad=nn.ZeroPad2d({})", sides(pads)),
                    format!("{name}={conv}{stride}{rest})"),
                ]),
            }
        }
        Kind::MaxPool(s) => {
            let pads = Pads::of_pool(s);
            let pool = format!("{name}=nn.MaxPool2d({}, stride={})", pair(s.kh, s.kw), s.stride);
            let pad = format!("{name}_pad=nn.ConstantPad2d({}, float(\"-inf\"))", sides(pads));
            Some(if pads.none() { vec![pool] } else { vec![pad, pool] })
        }
        Kind::AvgPool(s) => one(average(s)?),
        Kind::AdaptiveAvgPool(s) => one(format!("nn.AdaptiveAvgPool2d({})", pair(s.h_out, s.w_out))),
        Kind::BatchNorm(s, ..) => {
            let (class, eps) = (if s.is_image { "nn.BatchNorm2d" } else { "nn.BatchNorm1d" }, s.eps);
            one(format!("{class}({}, eps={eps:e}, momentum={})", s.channels, s.momentum))
        }
        Kind::GroupNorm(s, _) => one(format!("nn.GroupNorm({}, {}, eps={:e})", s.groups, s.channels, s.eps)),
        Kind::LayerNorm(s, _) => {
            let class = if s.is_image { "LayerNorm2d" } else { "nn.LayerNorm" };
            one(format!("{class}({}, eps={:e})", s.channels, s.eps))
        }
        Kind::GlobalMaxPool => {
            Some(vec![format!("{name}=nn.AdaptiveMaxPool2d(1)"), format!("{name}_flat=nn.Flatten()")])
        }
        Kind::GlobalAvgPool => {
            Some(vec![format!("{name}=nn.AdaptiveAvgPool2d(1)"), format!("{name}_flat=nn.Flatten()")])
        }
        Kind::Flatten(_, Order::ChannelsFirst) => one("nn.Flatten()".to_owned()),
        // Written where the class calls it.
        Kind::Flatten(_, Order::ChannelsLast) => None,
        Kind::Dense(s, ..) => one(format!("nn.Linear({}, {})", s.inputs, s.outputs)),
        Kind::Function(function) => one(function.torch.clone()),
        Kind::Dropout(p) => one(format!("nn.Dropout({p})")),
        // PyTorch itself has no module of it, and a model that is used does not drop rows.
        Kind::DropPath(_) | Kind::Folded => one("nn.Identity()".to_owned()),
        // Joined as the class is written.
        Kind::Add | Kind::Concat | Kind::Scale { .. } => None,
    }
}

/// PyTorch pads averages alike on both sides, by at most half a window; `ceil_mode` adds a last window that hangs over.
fn average(s: &PoolShape) -> Option<String> {
    let pads = Pads::of_pool(s);
    let fits = |pad: usize, k: usize, input: usize, output: usize| {
        2 * pad <= k && (input + 2 * pad).checked_sub(k).is_some_and(|span| span.div_ceil(s.stride) + 1 == output)
    };
    let floors = Pads::floors([s.h_in, s.w_in], [s.h_out, s.w_out], [s.kh, s.kw], s.stride, pads);
    if floors && 2 * pads.top <= s.kh && 2 * pads.left <= s.kw {
        let more = if (pads.top, pads.left) == (0, 0) {
            String::new()
        } else {
            format!(", padding={}, count_include_pad=False", pair(pads.top, pads.left))
        };
        return Some(format!("nn.AvgPool2d({}, stride={}{more})", pair(s.kh, s.kw), s.stride));
    }
    let all = fits(pads.top, s.kh, s.h_in, s.h_out) && fits(pads.left, s.kw, s.w_in, s.w_out);
    let more = match (pads.none(), pads.even()) {
        (true, _) => String::new(),
        (_, true) => format!(", padding={}, count_include_pad=False", pair(pads.top, pads.left)),
        _ => format!(", padding={}, ceil_mode=True, count_include_pad=False", pair(pads.top, pads.left)),
    };
    all.then(|| format!("nn.AvgPool2d({}, stride={}{more})", pair(s.kh, s.kw), s.stride))
}

fn pair(a: usize, b: usize) -> String {
    if a == b { a.to_string() } else { format!("({a}, {b})") }
}

/// As `nn.ZeroPad2d` takes them.
fn sides(Pads { top, left, bottom, right }: Pads) -> String {
    format!("({left}, {right}, {top}, {bottom})")
}

/// A script that loads the weights in `file` and gives the logits of `rows`: a u8 array `[N, h, w, c]`, or f32 `[N, d]`.
///
/// # Errors
/// Never for a model that was read.
pub fn script(saved: &SavedModel, file: &Path) -> Result<Option<String>> {
    let file = serde_json::json!(file.display().to_string());
    if let Some(twin) = twin(saved) {
        let prepare = prepare(saved);
        return Ok(Some(format!(
            "{twin}net.load_state_dict(load_file({file}), strict=True)\n{prepare}\nlogits = net.eval()(x)"
        )));
    }
    let stages = stages(saved)?;
    let Some(Network { definition, network }) = network(&stages) else { return Ok(None) };
    let is_renamed = stages.iter().any(|stage| attribute(stage) != stage.name);
    let weights = match is_renamed {
        true => {
            format!("{{\"m_\" + k.replace(\".\", \"_\", k.count(\".\") - 1): v for k, v in load_file({file}).items()}}")
        }
        false => format!("load_file({file})"),
    };
    Ok(Some(format!(
        "import torch\nfrom collections import OrderedDict\nfrom safetensors.torch import load_file\nfrom torch import nn\n\n\
         {definition}net = {network}\n\
         net.load_state_dict({weights})\n\
         {}\n\
         logits = net.eval()(x)",
        prepare(saved)
    )))
}

/// `x` from `rows`.
fn prepare(saved: &SavedModel) -> String {
    let pixels = matches!(saved.shape, RowShape::Image { .. });
    let (axes, view) = if pixels { ("(2, 3)", ".view(-1, 1, 1)") } else { ("1", "") };
    let rows = if pixels { "torch.as_tensor(rows).permute(0, 3, 1, 2)" } else { "torch.as_tensor(rows)" };
    match saved.normalizer.mode() {
        Normalize::Unit if pixels => format!("x = {rows}.float() / 255"),
        Normalize::None | Normalize::Unit => format!("x = {rows}.float()"),
        Normalize::Dataset => {
            let (mean, inverse) = saved.normalizer.parts();
            let tensor = |values: &[f32]| format!("torch.tensor({}){view}", serde_json::json!(values));
            format!("x = ({rows}.float() - {}) * {}", tensor(mean), tensor(inverse))
        }
        // As here: the moments in f64, what they do to a row in f32.
        Normalize::PerImage => format!(
            "x = {rows}.double()\n\
             mean, deviation = x.mean({axes}, keepdim=True), x.std({axes}, correction=0, keepdim=True)\n\
             x = (x.float() - mean.float()) * (1 / deviation.clamp_min(1e-12)).float()"
        ),
    }
}
