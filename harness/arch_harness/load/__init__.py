"""The load that servers carry: MLPerf LoadGen sends, and the highest rate that keeps a promised latency is found."""
