"""Run checks on exact trees and store their verdicts."""
