//! Tests of the configuration through its public functions.

use memsys::limit::MemoryLimit;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::market::import::Label;
use crate::run::config::DeviceChoice;
use agents::dqn::config::{DqnSettings, TargetUpdateChoice};
use embedders::Dropout;

fn dqn(config: &Config) -> &DqnSettings {
    let AgentSettings::Dqn(settings) = &config.agent;
    settings
}

fn load(sets: &[&str]) -> Result<Config> {
    Config::load(None, &sets.iter().map(|&set| set.to_owned()).collect::<Vec<_>>())
}

/// Loads `text` as a file called `run.toml`, then `sets`.
fn load_file(text: &str, sets: &[&str]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path), &sets.iter().map(|&set| set.to_owned()).collect::<Vec<_>>())
}

fn check_refused(result: Result<Config>, parts: &[&str]) {
    let fault = result.expect_err(&format!("expected a fault that says {parts:?}"));
    assert!(fault.is_usage(), "{fault}");
    let said = fault.to_string();
    for part in parts {
        assert!(said.contains(part), "`{said}` does not say `{part}`");
    }
    assert_eq!(said.lines().count(), 1, "one clear line: {said}");
}

#[test]
fn a_misspelt_key_is_refused_with_the_near_one() {
    check_refused(load(&["run.enviroment_steps=5"]), &["run.enviroment_steps: ", "`run.environment_steps`"]);
    check_refused(load(&["agent.n_steps=5"]), &["`agent.n_step`"]);
    check_refused(load(&["run.batch=5"]), &["`agent.batch`"]);
    check_refused(load(&["memory.zzz=5"]), &["the keys of [memory] are limit"]);
}

#[test]
fn changes_are_what_differs_from_the_defaults_of_the_environment() {
    assert!(Config::default().changes().is_empty());
    let changes = load(&["run.environment=cartpole", "agent.batch=32"]).unwrap().changes();
    assert_eq!(changes, ["agent.batch = 32 (default 64)"]);
}

#[test]
fn a_misspelt_section_is_refused_with_the_near_one() {
    check_refused(load(&["agnet.batch=5"]), &["agnet: is not a section", "`agent`"]);
    check_refused(load(&["zzz.batch=5"]), &["the sections are run, data, synthetic"]);
    check_refused(load_file("\n[agnet]\n", &[]), &["run.toml:2: agnet", "`agent`"]);
}

#[test]
fn a_value_of_another_type_is_refused_with_what_the_key_takes() {
    for (set, parts) in [
        ("account.commission_bps=cheap", ["cheap is not a number", "0 to 1000 (basis points"]),
        ("run.n_environments=2.5", ["2.5 is not a whole number", "1 to 4096 (environments)"]),
        ("run.environment_steps=1e6", ["1e6 is written as a fraction", "write 1000000"]),
        ("run.seed=99999999999999999999", ["beyond TOML's largest integer", "9223372036854775807"]),
        ("run.synchronous=yes", ["run.synchronous: ", "yes is neither true nor false"]),
        ("run.environment=marked", ["none of market, cartpole", "did you mean market?"]),
        ("run.device=tpu", ["`tpu` is no device", "cuda:N"]),
        ("data.label=middle", ["`middle` is none of", "start, end"]),
        ("agent.target_update=[1]", ["agent.target_update: ", "[1] is not one of the key's words"]),
        ("agent.discount=nan", ["nan is out of range", "0 to below 1"]),
        ("embedders.dropout=some", ["some is not a number", "or \"preset\""]),
        ("data.files=[a.csv]", ["not a TOML value", "stands in quotes"]),
        ("data.files=[\"\"]", ["data.files", "an empty path"]),
        ("data.source=[{label='end'}]", ["data.source", "needs `files`"]),
        ("data.source=[{files='a.csv', lable='end'}]", ["data.source", "unknown field `lable`"]),
        ("memory.limit=12parsecs", ["memory.limit: ", "`parsecs` is not a unit"]),
        ("memory.limit=true", ["`true` is not a size", "2GiB"]),
    ] {
        check_refused(load(&[set]), &parts);
    }
}

#[test]
fn tables_of_sources_share_their_options_and_files_on_the_command_line_have_their_own() {
    let text = "[data]\nzone = 'Asia/Tokyo'\nfiles = ['a.csv?label=end']\n[[data.source]]\nfiles = ['b.csv', \
                'c.csv?zone=UTC']\nas = 'kraken'\ncolumns = { close = 'Last' }\n[[data.source]]\nfiles = 'd.csv'\n\
                missing = 'drop'\n";
    let config = load_file(text, &[]).unwrap();
    let told: Vec<String> = crate::resolve::sources(&config.data)
        .unwrap()
        .iter()
        .map(|source| source.to_text().display().to_string())
        .collect();
    assert_eq!(
        told,
        [
            "a.csv?label=end&zone=Asia/Tokyo",
            "b.csv?as=kraken&zone=Asia/Tokyo&columns=close:Last",
            "c.csv?as=kraken&zone=UTC&columns=close:Last",
            "d.csv?zone=Asia/Tokyo&missing=drop",
        ]
    );
    assert_eq!(Config::from_toml_str(&config.to_toml()).unwrap(), config);
}

#[test]
fn bytes_may_be_written_as_sizes() {
    let config =
        load(&["replay.memory_budget=64MiB", "replay.mmap_above=2GB", "replay.mmap_window=0"]).unwrap();
    let replay = &config.replay;
    assert_eq!((replay.memory_budget, replay.mmap_above, replay.mmap_window), (64 << 20, 2_000_000_000, 0));
    let config = load_file("[replay]\nmemory_budget = '1.5 KiB'\n", &[]).unwrap();
    assert_eq!(config.replay.memory_budget, 1536);
    check_refused(load(&["replay.memory_budget=60%"]), &["60% is not a whole number of bytes"]);
    check_refused(load(&["replay.memory_budget=9EB"]), &["9EB is not a whole number of bytes"]);
    check_refused(load(&["run.environment_steps=1KiB"]), &["1KiB is not a whole number"]);
}

#[test]
fn a_value_out_of_range_is_refused_with_range_and_unit() {
    for (set, takes) in [
        ("run.environment_steps=0", "1 or more (environment steps)"),
        ("run.environment_steps=-1", "1 or more (environment steps)"),
        ("run.n_environments=0", "1 to 4096 (environments)"),
        ("run.n_environments=4097", "1 to 4096 (environments)"),
        ("run.seed=-1", "0 or more (any whole number)"),
        ("run.threads=1025", "0 to 1024 (threads)"),
        ("run.checkpoint_interval_steps=0", "1 or more (environment steps)"),
        ("run.evaluation_interval_steps=0", "1 or more (environment steps)"),
        ("run.queue_batches=0", "1 to 1024 (batches)"),
        ("data.train_fraction=0", "above 0 to below 1 (share of the bars)"),
        ("data.train_fraction=1.5", "above 0 to below 1 (share of the bars)"),
        ("data.validation_fraction=1", "0 to below 1 (share of the bars)"),
        ("synthetic.days=0", "1 to 36500 (days)"),
        ("synthetic.predictable_fraction=0.6", "0 to 0.5 (standard deviations)"),
        ("account.commission_bps=-1", "0 to 1000 (basis points of the traded notional, per side)"),
        ("account.half_spread_bps=-0.5", "0 to 1000 (basis points of the traded notional, per side)"),
        ("account.slippage_bps=1001", "0 to 1000 (basis points of the traded notional, per side)"),
        ("account.position_limit=0", "above 0 to 10 (times the equity)"),
        ("account.stop_atr=-1", "0 or more (ATR of the 5-minute bars)"),
        ("account.equity_floor=1", "0 to below 1 (share of the starting balance)"),
        ("account.drawdown_penalty=-1", "0 or more"),
        ("account.episode_bars=1", "2 to 100000000 (5-minute bars)"),
        ("embedders.dropout=1", "0 to below 1, or \"preset\""),
        ("agent.n_step=65", "1 to 64 (environment steps)"),
        ("agent.discount=1", "0 to below 1 (factor per step)"),
        ("agent.learning_rate=0", "above 0 to 1 (step size)"),
        ("agent.max_gradient_norm=0", "above 0 (norm over all parameters)"),
        ("agent.batch=65537", "1 to 65536 (transitions)"),
        ("agent.target_interval=0", "1 or more (learner steps)"),
        ("agent.target_tau=0", "above 0 to 1 (share of the way)"),
        ("agent.epsilon_start=1.1", "0 to 1 (share of the actions)"),
        ("agent.epsilon_end=-0.1", "0 to 1 (share of the actions)"),
        ("agent.epsilon_fraction=2", "0 to 1 (share of run.environment_steps)"),
        ("agent.learning_starts=0", "1 or more (transitions)"),
        ("agent.samples_per_insert=0", "above 0 (sampled transitions per inserted one)"),
        ("agent.reward_scale=0", "above 0 (factor)"),
        ("agent.hidden=0", "1 to 16384 (units)"),
        ("replay.capacity=0", "1 to 1000000000 (transitions)"),
        ("replay.priority_exponent=1.1", "0 to 1 (exponent)"),
        ("replay.importance_sampling_exponent=-1", "0 to 1 (exponent)"),
    ] {
        let (key, given) = set.split_once('=').unwrap();
        check_refused(load(&[set]), &[&format!("{key}: {given} is out of range: it takes {takes}")]);
    }
}

#[test]
fn values_that_contradict_one_another_are_refused_where_they_were_written() {
    check_refused(load(&["data.train_fraction=0.9"]), &["data.train_fraction: ", "leave nothing to test on"]);
    check_refused(
        load_file("[data]\nlabel = 'end'\nvalidation_fraction = 0.4\n", &[]),
        &["run.toml:3: data.validation_fraction: "],
    );
    check_refused(load(&["agent.epsilon_start=0.01"]), &["agent.epsilon_start: ", "epsilon_end 0.1"]);
    check_refused(load(&["replay.capacity=100"]), &["replay.capacity: ", "agent.learning_starts 2000"]);
}

#[test]
fn a_fault_in_a_file_names_file_and_line() {
    check_refused(
        load_file("# costs\n[account]\ncommission_bps = -1\n", &[]),
        &["run.toml:3: account.commission_bps: -1 is out of range: it takes 0 to 1000 (basis points"],
    );
    check_refused(load_file("[run]\nseed = 1\nsede = 2\n", &[]), &["run.toml:3: run.sede: ", "`run.seed`"]);
    check_refused(load_file("[run]\nseed = \n", &[]), &["run.toml:2: not TOML: "]);
    check_refused(load_file("[run]\nseed = 1\nseed = 2\n", &[]), &["run.toml:3: not TOML: ", "duplicate"]);
    check_refused(
        load_file("[run]\nseed = '1'\n", &[]),
        &["run.toml:2: run.seed: '1' is not a whole number"],
    );
    check_refused(
        load_file("[data]\nfiles = [1]\n", &[]),
        &["run.toml:2: data.files: takes paths in quotes"],
    );
    check_refused(
        load_file("[run]\nseed = [\n1,\n2\n]", &[]),
        &["run.toml:2: run.seed: [ 1, 2 ] is not a whole"],
    );
    check_refused(load_file("run.seed = -1\n", &[]), &["run.toml:1: run.seed: -1 is out of range"]);
    check_refused(load_file("seed = 1\n", &[]), &["run.toml:1: seed: ", "write it under [run]"]);
    check_refused(load_file("\nrun = 1\n", &[]), &["run.toml:2: run: ", "is a section"]);
    check_refused(load_file("[[run]]\nseed = 1\n", &[]), &["run: ", "is a section, not a key: write [run]"]);
    check_refused(load_file("[run.more]\nseed = 1\n", &[]), &["run.toml:1: run.more: is not a known key"]);
    check_refused(
        load_file("[agent]\nbatch = 0\n[data]\ntrain_fraction = 2\n", &[]),
        &["run.toml:2: agent.batch: "],
    );
    check_refused(Config::from_toml_str("\n[run]\nseed = -1\n"), &["config.toml:3: run.seed: "]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.toml");
    check_refused(Config::load(Some(&absent), &[]), &["absent.toml: the configuration cannot be read"]);
    check_refused(Config::load(Some(folder.path()), &[]), &["the configuration cannot be read"]);
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    check_refused(Config::load(Some(&binary), &[]), &["binary.toml: is not UTF-8"]);
}

#[test]
fn a_set_that_is_no_assignment_is_refused_with_an_example() {
    check_refused(load(&["run.seed"]), &["run.seed: has no `=`", "run.seed=7"]);
    check_refused(load(&["seed=7"]), &["seed: is not section.key"]);
    check_refused(load(&["run.seed.more=7"]), &["run.seed.more: is not section.key"]);
    check_refused(load(&["run.seed="]), &["run.seed: ", "\"\" is not a whole number"]);
    check_refused(load(&[".=7"]), &[": "]);
}

#[test]
fn a_set_overrides_the_file_and_an_earlier_set() {
    let file = "[run]\nseed = 5\nn_environments = 8\n[agent]\nbatch = 32\n";
    let config = load_file(file, &["run.seed=6", "agent.batch = 64", "run.seed=7"]).unwrap();
    assert_eq!((config.run.seed, config.run.n_environments, dqn(&config).batch), (7, 8, 64));
    assert_eq!(config.replay, Config::default().replay);
}

#[test]
fn a_set_needs_no_quotes() {
    let config = load(&[
        "run.environment=cartpole",
        "run.synchronous=false",
        "run.device=cuda:1",
        "run.out=runs/a b=c",
        "data.files=[\"a.csv\", 'b.parquet']",
        "data.time_format=%d/%m/%Y %H:%M:%S",
        "data.zone=America/New_York",
        "data.label=end",
        "agent.target_update=soft",
        "agent.max_gradient_norm=5",
        "embedders.dropout=0.1",
        "memory.limit=1073741824",
    ])
    .unwrap();
    assert_eq!(config.run.environment, EnvironmentKind::Cartpole);
    assert!(!config.run.synchronous);
    assert_eq!(config.run.device, DeviceChoice::Cuda(1));
    assert_eq!(config.run.out, Some(PathBuf::from("runs/a b=c")));
    assert_eq!(config.data.files, [PathBuf::from("a.csv"), PathBuf::from("b.parquet")]);
    assert_eq!(config.data.time_format.as_deref(), Some("%d/%m/%Y %H:%M:%S"));
    assert_eq!(config.data.zone.as_deref(), Some("America/New_York"));
    assert_eq!(config.data.label, Some(Label::End));
    assert_eq!(dqn(&config).target_update, TargetUpdateChoice::Soft);
    assert_eq!(dqn(&config).max_gradient_norm, 5.0);
    assert_eq!(config.embedders.dropout, Dropout::Fraction(0.1));
    assert_eq!(config.memory.limit, MemoryLimit::Bytes(1 << 30));
}

#[test]
fn text_on_the_command_line_stays_text_whatever_it_looks_like() {
    let config =
        load(&["run.out=2024", "data.files=a.csv", "data.time_format=2024-01-01", "memory.limit=60%"]);
    let config = config.unwrap();
    assert_eq!(config.run.out, Some(PathBuf::from("2024")));
    assert_eq!(config.data.files, [PathBuf::from("a.csv")]);
    assert_eq!(config.data.time_format.as_deref(), Some("2024-01-01"));
    assert_eq!(config.memory.limit, MemoryLimit::Percent(60.0));
    for path in ["[odd]", "quo\"te", "back\\slash", "new\nline", "true", "'"] {
        let config =
            load(&[&format!("run.out={}", quoted(path)), &format!("data.files=[{}]", quoted(path))]).unwrap();
        assert_eq!(
            (config.run.out, config.data.files),
            (Some(PathBuf::from(path)), vec![PathBuf::from(path)])
        );
    }
}

#[test]
fn a_key_left_open_is_none() {
    let config = load(&["run.out=runs/a", "run.out=\"\"", "data.zone=", "data.label="]).unwrap();
    assert_eq!((config.run.out, config.data.zone, config.data.label), (None, None, None));
}

#[test]
fn an_environment_has_its_own_defaults_wherever_it_is_named() {
    let expected = Config::defaults_for(EnvironmentKind::Cartpole, Algorithm::Dqn);
    assert_ne!(dqn(&expected).hidden, dqn(&Config::default()).hidden);
    assert_eq!(load(&["run.environment=cartpole"]).unwrap(), expected);
    assert_eq!(load_file("run = { environment = 'cartpole' }\n", &[]).unwrap(), expected);
    assert_eq!(load_file("[run]\nenvironment = 'cartpole'\n", &[]).unwrap(), expected);
    let file = "[run]\nenvironment = 'market'\n[agent]\nhidden = 33\n";
    let mixed = load_file(file, &["run.environment=cartpole"]).unwrap();
    assert_eq!(dqn(&mixed).hidden, 33, "what is written stays above every default");
    assert_eq!(dqn(&mixed).batch, dqn(&expected).batch);
}

#[test]
fn the_defaults_lie_within_their_ranges_and_print_and_read_back() {
    for environment in [EnvironmentKind::Market, EnvironmentKind::Cartpole] {
        let config = Config::defaults_for(environment, Algorithm::Dqn);
        assert_eq!(Config::from_toml_str(&config.to_toml()).unwrap(), config);
    }
    assert_eq!(load(&[]).unwrap(), Config::default());
}

proptest! {
    #[test]
    fn a_printed_configuration_reads_back_equal(
        seed in 0..=i64::MAX as u64,
        learning_rate in 1e-12..=1.0_f64,
        dropout in proptest::option::of(0.0..1.0_f64),
        text in ".{0,20}",
        files in proptest::collection::vec(".{1,12}", 0..4),
        bytes in 1_u64..,
        device in 0_u32..,
    ) {
        let mut config = Config::default();
        config.run.seed = seed;
        config.run.device = DeviceChoice::Cuda(device);
        config.run.out = Some(PathBuf::from(&text)).filter(|path| !path.as_os_str().is_empty());
        let AgentSettings::Dqn(agent) = &mut config.agent;
        agent.learning_rate = learning_rate;
        config.embedders.dropout = dropout.map_or(Dropout::Preset, Dropout::Fraction);
        config.data.time_format = Some(text).filter(|text| !text.is_empty());
        config.data.label = Some(Label::Start);
        config.data.files = files.into_iter().map(PathBuf::from).collect();
        config.memory.limit = MemoryLimit::Bytes(bytes);
        prop_assert_eq!(Config::from_toml_str(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn every_key_is_printed_below_its_comment() {
    let config = Config::default();
    let text = config.to_toml();
    let lines: Vec<&str> = text.lines().collect();
    for (name, value) in config.values() {
        let (section, key) = name.split_once('.').unwrap();
        let assignment = format!("{key} = {value}");
        let section = lines.iter().position(|line| *line == format!("[{section}]")).unwrap();
        let offset = lines[section..].iter().position(|line| *line == assignment).unwrap();
        assert!(lines[section + offset - 1].starts_with("# "), "{assignment} has no comment above it");
    }
    assert!(text.contains(
        "\n\n# Commission.\n# Range: 0 to 1000 (basis points of the traded notional, per side).\n"
    ));
    assert!(lines.iter().all(|line| line.len() <= 120), "comments fit a terminal");
}

#[test]
fn every_stated_range_belongs_to_a_key() {
    for (name, section) in Config::default().sections() {
        let keys: Vec<&str> = section.keys().into_iter().map(|(key, _)| key).collect();
        for range in section.checked().ranges {
            assert!(keys.contains(&range.key), "{name}.{} is no key", range.key);
        }
    }
}

/// A second legal value of every key, with the other settings that the key needs to have an effect.
const SECOND_VALUES: &[&[&str]] = &[
    &["run.environment=cartpole"],
    &["run.environment_steps=5"],
    &["run.n_environments=5"],
    &["run.synchronous=false"],
    &["run.seed=5"],
    &["run.threads=2"],
    &["run.checkpoint_interval_steps=5"],
    &["run.evaluation_interval_steps=5"],
    &["run.out=elsewhere"],
    &["run.queue_batches=5"],
    &["data.instrument=btc*=BTC"],
    &["data.files=a.csv"],
    &["data.source=[{ files = [\"a.csv\"], label = \"end\" }]"],
    &["data.preset=binance", "data.files=a.csv"],
    &["data.time_format=%Y", "data.files=a.csv"],
    &["data.zone=Europe/Berlin", "data.files=a.csv"],
    &["data.label=end", "data.files=a.csv"],
    &["data.decimal=comma", "data.files=a.csv"],
    &["data.missing=drop", "data.files=a.csv"],
    &["data.train_fraction=0.5"],
    &["data.validation_fraction=0.1"],
    &["synthetic.days=5"],
    &["synthetic.seed=5"],
    &["synthetic.predictable_fraction=0.1"],
    &["account.commission_bps=5"],
    &["account.half_spread_bps=5"],
    &["account.slippage_bps=5"],
    &["account.position_limit=5"],
    &["account.stop_atr=5"],
    &["account.equity_floor=0.1"],
    &["account.drawdown_penalty=5"],
    &["account.episode_bars=5"],
    &["embedders.preset=full"],
    &["embedders.dropout=0.5"],
    &["agent.double=false"],
    &["agent.dueling=false"],
    &["agent.n_step=5"],
    &["agent.discount=0.5"],
    &["agent.learning_rate=0.5"],
    &["agent.max_gradient_norm=5"],
    &["agent.batch=5"],
    &["agent.micro_batch=5"],
    &["agent.precision=bf16"],
    &["agent.target_update=soft"],
    &["agent.target_interval=5"],
    &["agent.target_tau=0.5", "agent.target_update=soft"],
    &["agent.epsilon_start=0.5"],
    &["agent.epsilon_end=0.05"],
    &["agent.epsilon_fraction=0.1"],
    &["agent.exploration_hold=5"],
    &["agent.learning_starts=5"],
    &["agent.samples_per_insert=5"],
    &["agent.reward_scale=5"],
    &["agent.hidden=5"],
    &["replay.capacity=5000"],
    &["replay.prioritized=false"],
    &["replay.priority_exponent=0.5"],
    &["replay.importance_sampling_exponent=0.5"],
    &["replay.tier=compressed"],
    &["replay.memory_budget=5", "replay.tier=compressed"],
    &["replay.compress_at=0.5"],
    &["replay.mmap_above=5", "replay.tier=mapped"],
    &["replay.mmap_window=5"],
    &["replay.compact_above=5"],
    &["replay.local_rows=f16"],
    &["replay.prefetch=ahead"],
    &["memory.limit=5GiB"],
    &["memory.device_limit=5GiB"],
    &["memory.managed=false"],
    &["memory.counted=false"],
    &["memory.activations=keep"],
    &["memory.spill_threshold=5"],
    &["memory.spill_folder=elsewhere"],
    &["memory.offload_gradients=true"],
    &["memory.smallest_micro_batch=16"],
    &["memory.memory_warning_threshold=0.5"],
    &["memory.memory_critical_threshold=0.95"],
    &["memory.monitoring_interval=1"],
    &["memory.refuse_every=5"],
];

/// Keys with only one legal value on this machine, or whose second value is tested elsewhere: `agent.algorithm` has one
/// agent, and `run.device` changes nothing on a machine without a GPU.
const EXCEPTIONS: [&str; 2] = ["agent.algorithm", "run.device"];

#[test]
fn no_key_is_without_effect() {
    let resolved = |sets: &[&str]| {
        let parts = crate::resolve::resolve_on(tch::Device::Cpu, &load(sets).unwrap()).unwrap();
        format!("{parts:?}")
    };
    for sets in SECOND_VALUES {
        assert_ne!(resolved(sets), resolved(&sets[1..]), "{} changes nothing", sets[0]);
    }
    for (key, _) in Config::default().values() {
        let is_tested = SECOND_VALUES.iter().any(|sets| sets[0].split('=').next() == Some(&key));
        assert!(is_tested != EXCEPTIONS.contains(&key.as_str()), "{key} has no second value here");
    }
}

#[test]
fn only_how_long_where_and_on_what_may_change_on_resume() {
    let run = Config::default();
    assert_eq!(run.differs_on_resume(&run), None);
    for set in [
        "run.environment_steps=70000",
        "run.threads=2",
        "run.device=cpu",
        "run.checkpoint_interval_steps=5",
        "run.evaluation_interval_steps=5",
        "run.out=elsewhere",
        "memory.limit=2GiB",
        "data.files=a.csv",
        "data.label=end",
        "memory.device_limit=2GiB",
        "memory.activations=recompute",
        "memory.spill_folder=elsewhere",
        "memory.monitoring_interval=1",
        "replay.tier=mapped",
        "replay.mmap_above=5",
        "replay.memory_budget=5",
    ] {
        assert_eq!(run.differs_on_resume(&load(&[set]).unwrap()), None, "{set}");
    }
    for set in ["run.seed=2", "agent.batch=64", "account.commission_bps=2", "data.train_fraction=0.5"] {
        let key = set.split_once('=').unwrap().0;
        assert_eq!(run.differs_on_resume(&load(&[set]).unwrap()).as_deref(), Some(key));
    }
}

#[test]
fn keys_that_may_change_on_resume_are_known_keys() {
    let values = Config::default().values();
    for name in MAY_CHANGE_ON_RESUME {
        assert!(values.iter().any(|(key, _)| key == name), "{name}");
    }
}

#[test]
fn a_critical_threshold_below_the_warning_is_refused() {
    check_refused(
        load(&["memory.memory_critical_threshold=0.5"]),
        &["memory.memory_critical_threshold: ", "below memory_warning_threshold 0.75"],
    );
}
