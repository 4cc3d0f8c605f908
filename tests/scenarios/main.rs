//! Scenarios run the program as its users do. Each file is named after the promise that it proves.
#![allow(clippy::unwrap_used, reason = "a scenario fails where a step of it fails")]

mod a_bench_leaves_nothing_behind;
mod a_folder_holds_one_run_of_one_process;
mod a_mapped_run_keeps_to_its_memory_limit;
mod a_plan_in_a_small_group_is_answered;
mod a_replay_file_outlives_its_process;
mod a_run_goes_on_at_its_own_limit;
mod a_signal_is_answered_between_blocks;
mod a_spill_folder_that_fails_costs_nothing;
mod absurd_surroundings_are_answered_in_one_line;
mod any_number_of_signals_is_one_request;
mod arrows_point_down;
mod bad_input_is_refused_in_one_line;
mod every_tier_gives_one_result;
mod killed_before_any_write_it_goes_on;
mod market_files_as_people_have_them;
mod no_bar_is_judged_that_was_learned_from;
mod no_damage_to_a_run_goes_unseen;
mod of_a_damaged_replay_the_rest_is_served;
mod one_seed_gives_one_result;
mod real_bars_train;
mod refused_allocations_change_nothing;
mod resumed_run_equals_uninterrupted_run;
mod run_leaves_a_whole_folder;
mod tells_as_much_as_asked;
mod the_memory_limit_holds;
mod the_plan_is_what_the_run_takes;
mod the_test_is_told_as_it_was;
